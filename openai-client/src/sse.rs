// SPDX-License-Identifier: MPL-2.0

//! Server-sent events, read as they come.
//!
//! Follows the "event stream" format of the HTML standard, and is more lenient where servers are
//! looser: a last event without its empty line counts, and a line `error: {...}` is an event.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty if it has none.
    pub name: String,
    /// Its data, lines joined by line feeds. Bytes that are no UTF-8 are replaced.
    pub data: String,
}

/// An event was longer than the parser's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a stream of bytes into events, wherever the network has cut it.
#[derive(Debug)]
pub struct Parser {
    /// The bytes of a line that has not ended.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return: a line feed belongs to it.
    after_return: bool,
    /// No line has ended yet: a byte order mark may stand there.
    first: bool,
    limit: usize,
}

impl Parser {
    /// A parser for events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            first: true,
            limit,
        }
    }

    /// Takes bytes and gives the events that they complete.
    ///
    /// # Errors
    /// [`TooLong`] if an event is longer than the limit; the parser is of no use after that.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => (),
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => {
                    self.line.push(byte);
                    if self.line.len() + self.data.len() > self.limit {
                        return Err(TooLong);
                    }
                }
            }
        }
        Ok(events)
    }

    /// The stream has ended: an event whose end has not come.
    pub fn finish(&mut self) -> Option<Event> {
        if !self.line.is_empty() {
            self.take_line();
        }
        self.end_event()
    }

    fn end_line(&mut self) -> Option<Event> {
        if self.line.is_empty() {
            self.first = false;
            return self.end_event();
        }
        self.take_line();
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let has_data = std::mem::take(&mut self.has_data);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        has_data.then(|| Event {
            name: text(name),
            data: text(data),
        })
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if std::mem::take(&mut self.first) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.add_data(value),
            b"event" => self.name = value.to_vec(),
            b"error" => {
                self.name = b"error".to_vec();
                self.add_data(value);
            }
            // A comment (an empty field), `id`, `retry`, and what nobody knows.
            _ => (),
        }
    }

    fn add_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(parser.feed(piece).unwrap());
        }
        events.extend(parser.finish());
        events.into_iter().map(|e| (e.name, e.data)).collect()
    }

    fn data(pieces: &[&[u8]]) -> Vec<String> {
        events(pieces).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn events_end_at_an_empty_line_and_comments_are_skipped() {
        let stream = b": hello\n\ndata: {\"a\": 1}\n\n: OPENROUTER PROCESSING\n\ndata:[DONE]\n\n";
        assert_eq!(data(&[stream]), ["{\"a\": 1}", "[DONE]"]);
    }

    #[test]
    fn all_three_ends_of_lines_are_ends_also_when_cut_in_the_middle() {
        assert_eq!(
            data(&[b"data: a\r", b"\n\r\ndata: b\r\rdata: c\n\n"]),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn a_character_cut_in_the_middle_is_whole_again() {
        assert_eq!(
            data(&[b"data: K\xc3", b"\xa4fer \xf0\x9f", b"\x90\x9e\n\n"]),
            ["Käfer 🐞"]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(data(&[b"data: a\xff\xc3\n\n"]), ["a\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn lines_of_data_are_joined_and_names_are_told() {
        let stream = b"\xef\xbb\xbfevent: note\nid: 7\ndata: a\ndata:b\ndata\n\n";
        assert_eq!(events(&[stream]), [("note".into(), "a\nb\n".into())]);
    }

    #[test]
    fn a_line_named_error_is_an_event() {
        assert_eq!(
            events(&[b"error: {\"code\":500}\n\n"]),
            [("error".into(), "{\"code\":500}".into())]
        );
    }

    #[test]
    fn a_last_event_without_its_empty_line_counts() {
        assert_eq!(data(&[b"data: a\n\ndata: b"]), ["a", "b"]);
        assert_eq!(data(&[b"data: a\n\n: bye\n"]), ["a"]);
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_however_it_comes() {
        let mut parser = Parser::new(10);
        assert_eq!(parser.feed(b"data: 12345678"), Err(TooLong));
        let mut parser = Parser::new(10);
        let lines = parser.feed(b"data: 1\ndata: 2\ndata: 3\ndata: 4\ndata: 5\n");
        assert_eq!(lines, Err(TooLong));
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_changes_nothing(
            stream in prop::collection::vec(
                prop::sample::select(b"data:event \r\n\xc3\xa4{}x".to_vec()), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[&stream]));
        }

        #[test]
        fn what_was_sent_as_events_is_what_is_read(
            texts in prop::collection::vec("[a-zäöü {}:\"]{0,20}", 0..10),
            end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            comment in any::<bool>(),
        ) {
            let mut stream = String::new();
            for text in &texts {
                if comment {
                    stream.push_str(&format!(": ping{end}"));
                }
                stream.push_str(&format!("data: {text}{end}{end}"));
            }
            prop_assert_eq!(data(&[stream.as_bytes()]), texts);
        }

        #[test]
        fn no_bytes_make_it_fail_or_remember_more_than_its_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let mut parser = Parser::new(64);
            let _ = parser.feed(&bytes);
            prop_assert!(parser.line.len() + parser.data.len() <= 65 + 64);
        }
    }
}
