// SPDX-License-Identifier: MPL-2.0

//! Texts of a process that is not believed.

/// Letters of a line, at most.
const LINE: usize = 300;

/// Letters of an error, which says what to do about it.
const ERROR: usize = 2000;

/// A line without what moves a terminal's cursor, and no longer than a line should be.
pub fn printable(line: &str) -> String {
    cleaned(line, LINE)
}

fn cleaned(text: &str, most: usize) -> String {
    let text = text.trim_end();
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !is_invisible(*c))
        .take(most)
        .collect();
    if text.chars().nth(most).is_some() {
        clean.push('…');
    }
    clean
}

/// What turns the direction of a text or cannot be seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// An error or the like, as far as it is worth reading.
pub fn bounded(text: &str) -> String {
    cleaned(text, ERROR)
}

/// The last lines of an output, however much there was.
#[derive(Debug, Default)]
pub struct Tail {
    /// The line that is not ended yet.
    open: Vec<u8>,
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const KEPT: usize = 6;

    /// Takes what was read; `each` hears of every whole line.
    pub fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(each);
            } else if self.open.len() < 4 * LINE {
                self.open.push(byte);
            }
        }
    }

    /// The output has ended.
    pub fn end_line(&mut self, each: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.open);
        let line = printable(&String::from_utf8_lossy(&line));
        if line.trim().is_empty() {
            return;
        }
        each(&line);
        self.lines.push_back(line);
        while self.lines.len() > Self::KEPT {
            self.lines.pop_front();
        }
    }

    /// The last lines as one.
    pub fn words(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_few_printable_and_bounded() {
        let mut tail = Tail::default();
        let mut n = 0;
        let mut each = |_: &str| n += 1;
        for line in 0..100 {
            tail.take(
                format!("line {line}\x1b[2J\u{202e}\n").as_bytes(),
                &mut each,
            );
        }
        tail.take(&[0xff; 100_000], &mut each);
        tail.end_line(&mut each);
        assert_eq!(n, 101);
        let words = tail.words();
        assert!(words.starts_with("line 95 [2J | "), "{words}");
        assert!(words.chars().all(|c| !c.is_control()));
        assert!(words.len() < 3000, "{}", words.len());
    }
}
