// SPDX-License-Identifier: MPL-2.0

//! What the numbers mean that the libraries return.

/// What a status means, in short; `None` for a number of another form.
///
/// A card's own are `0x80000000 | module << 24 | 0x30 << 16 | part << 8 | error`; a board's
/// `0x80 << 24 | module << 16 | part << 8 | error`, and a card passes those of its own NPU through.
pub fn meaning(code: i32) -> Option<String> {
    let bytes = code.to_be_bytes();
    if bytes[0] & 0x80 == 0 {
        return None;
    }
    let [_, module, part, error] = bytes;
    if module == 0x30 {
        let part_name = card_part(part);
        let what = card_private(part, error).or_else(|| card_error(error))?;
        return Some(format!("{part_name}: {what}"));
    }
    let module_name = match module {
        0x06 => "NPU",
        0x0b => "memory",
        0x1d => "engine",
        _ => "system",
    };
    let what = match (module, error) {
        (0x0b, 0x80) => "the memory could not be mapped",
        (0x0b, 0x81) => "the memory could not be unmapped",
        (0x0b, 0x82) => "the memory could not be freed",
        _ => board_error(error)?,
    };
    Some(format!("{module_name}: {what}"))
}

fn board_error(error: u8) -> Option<&'static str> {
    Some(match error {
        0x0a => "a parameter is not valid",
        0x0b => "a pointer is null",
        0x0c => "an address is wrong",
        0x10 => "the system is not ready",
        0x11 => "busy",
        0x12 => "not initialised",
        0x13 => "not configured",
        0x14 => "not supported",
        0x15 => "not permitted",
        0x16 => "exists already",
        0x17 => "does not exist",
        0x18 => "no memory is left",
        0x19 => "no buffer is left",
        0x1a => "does not match",
        0x20..=0x23 => "a queue is empty or full",
        0x27 => "timed out",
        0x28 => "the stream ended",
        0x29 => "an unknown error",
        0x30 => "the operating system refused",
        _ => return None,
    })
}

fn card_part(part: u8) -> &'static str {
    match part {
        0 => "runtime",
        1 => "device",
        2 => "context",
        3 => "stream",
        4 => "task",
        5 => "memory",
        6 => "configuration",
        7 => "engine",
        _ => "card",
    }
}

fn card_private(part: u8, error: u8) -> Option<&'static str> {
    Some(match (part, error) {
        (1, 0x80) => "the cards could not be asked for",
        (1, 0x81) => "no card is connected",
        (1, 0x82) => "the card could not be probed",
        (1, 0x83) => "the card is not active",
        (1, 0x84) => "no card has this id",
        (1, 0x85) => "no card is active",
        (1, 0x86) => "no port could be opened to the card",
        (1, 0x87) => "the card did not start again",
        (1, 0x88) => "the card's port could not be closed",
        (2, 0x81) => "no context could be made",
        (2, 0x82) => "the context could not be ended",
        (2, 0x83) => "the thread could not be bound",
        (2, 0x84) => "the thread has no context",
        (5, 0x81) => "the memory is not the card's",
        (7, 0x81) => "an index is not valid",
        _ => return None,
    })
}

fn card_error(error: u8) -> Option<&'static str> {
    Some(match error {
        0x01 => "failed",
        0x02 => "a pointer is null",
        0x03 => "a parameter is not valid",
        0x04 => "not supported",
        0x05 => "timed out",
        0x06 => "busy",
        0x07 => "no memory is left",
        0x08 => "a request could not be written",
        0x09 => "an answer could not be read: the card's own program has ended",
        0x0a => "an unexpected answer",
        0x0b => "the device could not be opened",
        0x0c => "the card could not carry it out",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u32) -> String {
        meaning(code as i32).unwrap_or_default()
    }

    #[test]
    fn published_codes_say_what_they_mean() {
        assert_eq!(of(0x8030_0181), "device: no card is connected");
        assert_eq!(of(0x8030_0284), "context: the thread has no context");
        assert_eq!(of(0x8030_0707), "engine: no memory is left");
        assert_eq!(of(0x800b_0018), "memory: no memory is left");
        assert_eq!(of(0x800b_0082), "memory: the memory could not be freed");
        assert_eq!(of(0x801d_0015), "engine: not permitted");
        assert_eq!(of(0x8006_010a), "NPU: a parameter is not valid");
    }

    #[test]
    fn other_numbers_mean_nothing() {
        for code in [0, 1, 7, 0x8030_01ff_u32 as i32, 0x8006_0001_u32 as i32] {
            assert_eq!(meaning(code), None, "{code:#x}");
        }
        assert!(meaning(-1).is_none());
    }
}
