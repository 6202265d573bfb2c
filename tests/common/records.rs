// SPDX-License-Identifier: MPL-2.0

//! Records of captions: read, and made again.

use std::path::Path;

use gstvlmcaption::caption::engine::examiner::Examiner;
use gstvlmcaption::caption::evidence::again::{Change, again};
use gstvlmcaption::caption::evidence::reading::{Whole, records};

/// All records in a folder, in order of time.
pub fn read(folder: &Path) -> Vec<Whole> {
    let paths = records(folder).unwrap();
    let read = paths.iter().map(|path| Whole::read(path).unwrap());
    read.collect()
}

/// The model that a record is of, opened by the properties that the record has.
pub fn examiner(whole: &Whole) -> Examiner {
    let source = gstvlmcaption::vlmcaption::source(&whole.record.model.properties).unwrap();
    Examiner::open(&source, &mut |_| ()).unwrap()
}

/// Makes all captions of a folder again on the model that they were of: each must be the same, token by
/// token, from the same prompt. How many there were.
pub fn made_again(folder: &Path) -> usize {
    let all = read(folder);
    let Some(first) = all.first() else {
        return 0;
    };
    let mut examiner = examiner(first);
    for whole in &all {
        let again = again(&mut examiner, whole, &Change::default()).unwrap();
        let compared = again.compared(&whole.record);
        assert!(compared.is_same(), "{}: {compared:?}", whole.record.id);
        assert_eq!(again.answer.tokens, whole.record.answer.tokens);
        assert_eq!(again.prompt, whole.record.prompt, "{}", whole.record.id);
    }
    all.len()
}
