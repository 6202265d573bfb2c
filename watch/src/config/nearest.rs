// SPDX-License-Identifier: MPL-2.0

//! The known key that somebody may have meant.

/// What `serde` says of an unknown key, told in the words of this program: the nearest known one, or
/// all that are known. Other messages stay as they are.
pub fn reword(message: &str) -> String {
    let Some((key, known)) = unknown(message) else {
        return message.to_owned();
    };
    match nearest(key, &known) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

/// The unknown key and the known ones, of a message that is about one.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((key, known))
}

/// The nearest of the known words, if it is near at all.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let same = |text: &str| text.to_lowercase().replace('_', "-");
    let word = same(word);
    let near = known
        .iter()
        .map(|candidate| (distance(&word, &same(candidate)), *candidate))
        .min()?;
    let allowed = (word.chars().count() / 3).max(1);
    (near.0 <= allowed).then_some(near.1)
}

/// Levenshtein's distance: how many characters to change, add or take away.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        let known = ["password-file", "password-env", "prompt", "url"];
        assert_eq!(nearest("pasword-file", &known), Some("password-file"));
        assert_eq!(nearest("password_file", &known), Some("password-file"));
        assert_eq!(nearest("promt", &known), Some("prompt"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn distances_are_those_of_the_book() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
