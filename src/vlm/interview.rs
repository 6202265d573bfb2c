// SPDX-License-Identifier: MPL-2.0

//! One sequence in which several questions about the same pixels are answered one after another:
//! the rows that a prompt has in common with the one before it are computed once.

use std::sync::Arc;

use super::drafter::Drafter;
use super::sampling::Sampler;
use super::tokenizer::Tokenizer;
use super::{Error, Prompt, PromptRun};
use crate::backend::{
    self, Cancel, Launch, Next, Position, Program, Segment, SequenceId, VisualTokens,
};

/// What a row of a sequence is; equal rows after equal rows have equal keys and values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    source: Source,
    position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Token(u32),
    /// A row of `visuals[index]`.
    Visual {
        index: usize,
        row: usize,
    },
}

/// An open sequence; it is closed when this is dropped, whatever happens.
pub struct Interview<'a> {
    program: &'a mut dyn Program,
    pub(super) tokenizer: &'a Tokenizer,
    visuals: &'a [Arc<VisualTokens>],
    sequence: Option<SequenceId>,
    /// What the sequence holds.
    rows: Vec<Row>,
    keeps_likelihoods: bool,
    drafter: Option<Drafter>,
}

/// A prompt that is in the sequence, with what follows it.
pub(super) struct Prefilled<'p> {
    pub next: Next<'p>,
    /// Rows that were there already, of this sequence or of an earlier one.
    pub reused: usize,
}

impl<'a> Interview<'a> {
    /// Begins; nothing is computed yet. `visuals[i]` stands for [`PromptRun::Visual(i)`] in all
    /// prompts.
    pub fn new(
        program: &'a mut dyn Program,
        tokenizer: &'a Tokenizer,
        visuals: &'a [Arc<VisualTokens>],
    ) -> Self {
        Self {
            program,
            tokenizer,
            visuals,
            sequence: None,
            rows: Vec::new(),
            keeps_likelihoods: false,
            drafter: None,
        }
    }

    /// Drafts the answers to come: texts, and those in JSON.
    pub fn set_drafter(&mut self, drafter: Option<Drafter>) {
        self.drafter = drafter;
    }

    /// The drafter, with what it has learnt.
    pub fn take_drafter(&mut self) -> Option<Drafter> {
        self.drafter.take()
    }

    /// Whether answers in [`Form::Text`](super::request::Form::Text) tell how likely each of their
    /// tokens was, which takes a pass over all logits a token.
    pub fn keep_likelihoods(&mut self, keep: bool) {
        self.keeps_likelihoods = keep;
    }

    pub(super) fn keeps_likelihoods(&self) -> bool {
        self.keeps_likelihoods
    }

    /// Rows that the sequence can hold.
    pub(super) fn context(&self) -> usize {
        self.program.limits().context
    }

    /// Rows that the sequence holds.
    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Brings the sequence to a prompt: forgets the rows of the question before that differ, and
    /// appends the prompt's others. The sampler notes the prompt's tokens.
    ///
    /// # Errors
    /// [`Error::Backend`] with [`Context`](backend::Error::Context) if the prompt leaves no room
    /// for one token; [`Error::Grid`] if it stands for more pixels than there are.
    pub(super) fn prefill(
        &mut self,
        prompt: &Prompt,
        sampler: &mut Sampler,
        cancel: &Cancel,
    ) -> Result<Prefilled<'_>, Error> {
        let context = self.context();
        let needed = prompt.n_rows() + 1;
        if needed > context {
            return Err(Error::Backend(backend::Error::Context { needed, context }));
        }
        observe(prompt, sampler);
        let rows = rows(prompt, self.visuals)?;
        cancel.check()?;
        // The last row must run: what follows it is asked for.
        let same = self.rows.iter().zip(&rows).take_while(|(a, b)| a == b);
        let same = same.count().min(rows.len().saturating_sub(1));
        let (mut kept, mut segments) = tail(prompt, self.visuals, same);
        if kept > 0 && !self.program.continues(kept, rows.len() - kept) {
            self.close();
            (kept, segments) = tail(prompt, self.visuals, 0);
        }
        let sequence = self.open()?;
        if kept < self.rows.len() {
            self.program.truncate(sequence, kept);
            self.rows.truncate(kept);
        }
        // What an earlier sequence left is found by the program itself.
        let reused = match kept {
            0 => self.program.shared(&segments, &prompt.positions),
            kept => kept,
        };
        let next = self
            .program
            .extend(sequence, &segments, &prompt.positions[kept..], cancel)?;
        self.rows.extend_from_slice(&rows[kept..]);
        Ok(Prefilled { next, reused })
    }

    /// Appends one token.
    pub(super) fn step(
        &mut self,
        token: u32,
        position: u32,
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        cancel.check()?;
        let sequence = self.open()?;
        let position = [position; 3];
        let next =
            self.program
                .extend(sequence, &[Segment::Tokens(&[token])], &[position], cancel)?;
        self.rows.push(Row {
            source: Source::Token(token),
            position,
        });
        Ok(next)
    }

    /// Launches by which tokens can be verified now.
    pub(super) fn launches(&self) -> Vec<Launch> {
        self.program.verifies(self.rows.len())
    }

    /// Appends tokens, the first at a position, and tells what follows each of them.
    pub(super) fn verify(
        &mut self,
        tokens: &[u32],
        position: u32,
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        cancel.check()?;
        let sequence = self.open()?;
        let positions: Vec<Position> = (position..).map(|at| [at; 3]).take(tokens.len()).collect();
        self.program
            .verify(sequence, tokens, &positions, cancel, take)?;
        let rows = tokens.iter().zip(positions);
        self.rows.extend(rows.map(|(&token, position)| Row {
            source: Source::Token(token),
            position,
        }));
        Ok(())
    }

    /// Forgets all rows from `n_rows` on.
    pub(super) fn back_to(&mut self, n_rows: usize) {
        if let Some(sequence) = self.sequence
            && n_rows < self.rows.len()
        {
            self.program.truncate(sequence, n_rows);
            self.rows.truncate(n_rows);
        }
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        match self.sequence {
            Some(sequence) => Ok(sequence),
            None => Ok(*self.sequence.insert(self.program.open()?)),
        }
    }

    fn close(&mut self) {
        if let Some(sequence) = self.sequence.take() {
            self.program.close(sequence);
        }
        self.rows.clear();
    }
}

impl Drop for Interview<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Has a program compute a prompt up to the last of its visual tokens, for a prompt to come that
/// begins alike: one about the same pixels and later ones, or with another question.
///
/// # Errors
/// Those of the program; [`Error::Grid`] if the prompt stands for more pixels than there are.
pub fn prepare(
    program: &mut dyn Program,
    prompt: &Prompt,
    visuals: &[Arc<VisualTokens>],
    cancel: &Cancel,
) -> Result<(), Error> {
    let rows = rows(prompt, visuals)?;
    let is_visual = |row: &Row| matches!(row.source, Source::Visual { .. });
    let Some(last) = rows.iter().rposition(is_visual) else {
        return Ok(());
    };
    let (_, mut segments) = tail(prompt, visuals, 0);
    while matches!(segments.last(), Some(Segment::Tokens(_))) {
        segments.pop();
    }
    program.prepare(&segments, &prompt.positions[..=last], cancel)?;
    Ok(())
}

/// The sampler notes a prompt's tokens.
fn observe(prompt: &Prompt, sampler: &mut Sampler) {
    for run in &prompt.runs {
        match run {
            PromptRun::Tokens(ids) => sampler.observe(ids),
            PromptRun::Visual(_) => sampler.observe(prompt.placeholder.as_slice()),
        }
    }
}

/// The rows of a prompt.
fn rows(prompt: &Prompt, visuals: &[Arc<VisualTokens>]) -> Result<Vec<Row>, Error> {
    let mut sources = Vec::with_capacity(prompt.n_rows());
    for run in &prompt.runs {
        match run {
            PromptRun::Tokens(ids) => sources.extend(ids.iter().map(|&id| Source::Token(id))),
            PromptRun::Visual(index) => {
                let index = *index;
                let tokens = visuals.get(index).ok_or_else(|| {
                    Error::Grid(format!(
                        "the prompt stands for {} temporal patches or more, got {}",
                        index + 1,
                        visuals.len()
                    ))
                })?;
                sources.extend((0..tokens.n_tokens).map(|row| Source::Visual { index, row }));
            }
        }
    }
    let rows = sources.into_iter().zip(&prompt.positions);
    Ok(rows
        .map(|(source, &position)| Row { source, position })
        .collect())
}

/// A prompt's runs from row `from` on, as the program takes them, and the row they begin at: the
/// visual tokens of a patch are not taken apart.
fn tail<'a>(
    prompt: &'a Prompt,
    visuals: &'a [Arc<VisualTokens>],
    from: usize,
) -> (usize, Vec<Segment<'a>>) {
    let (mut at, mut begin) = (0, from);
    let mut segments = Vec::with_capacity(prompt.runs.len());
    for run in &prompt.runs {
        let n_rows = match run {
            PromptRun::Tokens(ids) => ids.len(),
            PromptRun::Visual(index) => visuals[*index].n_tokens,
        };
        if at + n_rows > from {
            segments.push(match run {
                PromptRun::Tokens(ids) => Segment::Tokens(&ids[from.saturating_sub(at)..]),
                PromptRun::Visual(index) => {
                    begin = begin.min(at);
                    Segment::Visual(&visuals[*index])
                }
            });
        }
        at += n_rows;
    }
    (begin, segments)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::backend::{Features, GridThw, Limits, Patches};
    use crate::vlm::generate::{Form, GenerateOptions, Generated, StopReason};
    use crate::vlm::sampling::Sampling;
    use crate::vlm::tokenizer::demo;

    const EOS: u32 = 506;
    const VOCAB: usize = 512;

    /// Computes rows one by one and counts them; its logits are a function of all rows that its
    /// sequence holds.
    struct Counting {
        limits: Limits,
        rows: Vec<(u32, Position)>,
        is_open: bool,
        n_opened: usize,
        n_computed: usize,
        continues: bool,
        logits: Vec<f32>,
        /// What follows the rows, given their tokens after the last pixel.
        says: fn(&[u32]) -> Vec<(u32, f32)>,
    }

    impl Counting {
        fn new(says: fn(&[u32]) -> Vec<(u32, f32)>) -> Self {
            Self {
                limits: Limits {
                    context: 100,
                    prompt: 100,
                    vocab_size: VOCAB,
                    weight_bytes: 0,
                },
                rows: Vec::new(),
                is_open: false,
                n_opened: 0,
                n_computed: 0,
                continues: true,
                logits: Vec::new(),
                says,
            }
        }
    }

    impl Program for Counting {
        fn limits(&self) -> &Limits {
            &self.limits
        }

        fn encode(&mut self, _: &Patches, _: &Cancel) -> Result<VisualTokens, backend::Error> {
            Err(backend::Error::Cancelled)
        }

        fn open(&mut self) -> Result<SequenceId, backend::Error> {
            assert!(!self.is_open, "one sequence at a time");
            self.is_open = true;
            self.n_opened += 1;
            self.rows.clear();
            Ok(SequenceId(1))
        }

        fn extend(
            &mut self,
            _: SequenceId,
            segments: &[Segment<'_>],
            positions: &[Position],
            cancel: &Cancel,
        ) -> Result<Next<'_>, backend::Error> {
            cancel.check()?;
            let ids = segments.iter().flat_map(|segment| match segment {
                Segment::Tokens(ids) => ids.to_vec(),
                Segment::Visual(tokens) => vec![1000; tokens.n_tokens],
            });
            let ids: Vec<u32> = ids.collect();
            assert_eq!(ids.len(), positions.len());
            assert!(!ids.is_empty());
            self.n_computed += ids.len();
            self.rows
                .extend(ids.into_iter().zip(positions.iter().copied()));
            let last = self.rows.iter().rposition(|(id, _)| *id == 1000);
            let asked: Vec<u32> = self.rows[last.map_or(0, |at| at + 1)..]
                .iter()
                .map(|(id, _)| *id)
                .collect();
            self.logits = vec![-20.0; VOCAB];
            for (id, logit) in (self.says)(&asked) {
                self.logits[id as usize] = logit;
            }
            Ok(Next::Logits(&self.logits))
        }

        fn continues(&self, _: usize, _: usize) -> bool {
            self.continues
        }

        fn truncate(&mut self, _: SequenceId, n_rows: usize) {
            self.rows.truncate(n_rows);
        }

        fn close(&mut self, _: SequenceId) {
            assert!(self.is_open);
            self.is_open = false;
        }
    }

    fn token(text: &str) -> u32 {
        let ids = demo().encode(text).unwrap();
        assert_eq!(ids.len(), 1, "{text}");
        ids[0]
    }

    /// Two rows of text, four visual tokens, then a question.
    fn prompt(question: &[u32]) -> Prompt {
        let n = 6 + question.len() as u32;
        Prompt {
            runs: vec![
                PromptRun::Tokens(vec![1, 2]),
                PromptRun::Visual(0),
                PromptRun::Tokens(question.to_vec()),
            ],
            positions: (0..n).map(|n| [n; 3]).collect(),
            next_position: n,
            placeholder: Some(511),
        }
    }

    fn visuals() -> Vec<Arc<VisualTokens>> {
        vec![Arc::new(VisualTokens {
            grid: GridThw { t: 1, h: 4, w: 4 },
            n_tokens: 4,
            features: Features::Host {
                launch: 0,
                embeds: vec![],
                deepstack: vec![],
            },
        })]
    }

    fn ask(interview: &mut Interview<'_>, question: &[u32], form: Form<'_>) -> Generated {
        let options = GenerateOptions {
            max_tokens: 10,
            sampling: Sampling::greedy(),
            eos: vec![EOS],
            stop: vec![],
        };
        let prompt = prompt(question);
        let cancel = Cancel::default();
        interview
            .answer(&prompt, form, &options, &cancel, &mut |_| {})
            .unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn questions_about_the_same_pixels_share_all_rows_before_they_differ() {
        // Says its question back, then ends.
        fn echo(asked: &[u32]) -> Vec<(u32, f32)> {
            vec![(if asked.len() > 3 { EOS } else { asked[1] }, 9.0)]
        }
        let visuals = visuals();
        let questions = [[64, 65, 66], [64, 70, 66], [64, 65, 67]];
        let mut program = Counting::new(echo);
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        let shared: Vec<Generated> = questions
            .iter()
            .map(|question| ask(&mut interview, question, Form::Text))
            .collect();
        drop(interview);
        let reused: Vec<usize> = shared.iter().map(|said| said.reused).collect();
        assert_eq!(reused, [0, 7, 7]);
        // Each prompt's own rows and one answered token.
        assert_eq!(program.n_computed, 9 + 2 + 2 + 3);
        assert_eq!((program.n_opened, program.is_open), (1, false));
        for (question, said) in questions.iter().zip(&shared) {
            let mut program = Counting::new(echo);
            let mut alone = Interview::new(&mut program, demo(), &visuals);
            assert_eq!(ask(&mut alone, question, Form::Text).text, said.text);
        }
    }

    #[test]
    fn a_program_that_would_rather_begin_anew_is_let() {
        let visuals = visuals();
        let mut program = Counting::new(|_| vec![(EOS, 9.0)]);
        program.continues = false;
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        for question in [[64, 65], [64, 66]] {
            assert_eq!(ask(&mut interview, &question, Form::Text).reused, 0);
        }
        drop(interview);
        assert_eq!((program.n_opened, program.n_computed), (2, 16));
    }

    #[test]
    fn the_same_question_twice_runs_its_last_row_again() {
        let visuals = visuals();
        let mut program = Counting::new(|_| vec![(EOS, 9.0)]);
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        ask(&mut interview, &[64, 65], Form::Text);
        assert_eq!(ask(&mut interview, &[64, 65], Form::Text).reused, 7);
    }

    #[test]
    fn yes_and_no_are_weighed_in_all_their_spellings() {
        fn says(_: &[u32]) -> Vec<(u32, f32)> {
            let ln = |p: f32| p.ln();
            // The rest goes to a token that is no answer.
            vec![
                (token("Yes"), ln(0.2)),
                (token("No"), ln(0.1)),
                (token("no"), ln(0.1)),
                (64, ln(0.6)),
            ]
        }
        let visuals = visuals();
        let mut program = Counting::new(says);
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        let said = ask(&mut interview, &[70], Form::Choice(&words(&["yes", "no"])));
        // Equal shares: the first is said.
        assert_eq!(said.text, "yes");
        assert!((said.probability.unwrap() - 0.5).abs() < 1e-3, "{said:?}");
        assert_eq!(said.stop_reason, StopReason::Complete);
        assert_eq!((said.tokens_in, said.tokens_out), (7, 1));
        drop(interview);
        assert_eq!(program.n_computed, 7, "one prefill and no step");
    }

    #[test]
    fn choices_that_begin_alike_are_followed_to_where_they_differ() {
        // "Red", then a circle or a square; or "Blue".
        fn says(asked: &[u32]) -> Vec<(u32, f32)> {
            let ln = |p: f32| p.ln();
            match asked.last() {
                Some(&last) if last == token("Red") => vec![
                    (token(" circle"), ln(0.1)),
                    (token(" square"), ln(0.6)),
                    (EOS, ln(0.3)),
                ],
                Some(70) => vec![(token("Red"), ln(0.8)), (token("Blue"), ln(0.2))],
                other => panic!("{other:?} is not followed"),
            }
        }
        let visuals = visuals();
        let mut program = Counting::new(says);
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        let choices = words(&["Blue", "Red circle", "Red square", "Red"]);
        let said = ask(&mut interview, &[70], Form::Choice(&choices));
        assert_eq!(said.text, "Red square");
        let want = [0.2, 0.08, 0.48, 0.24];
        for (got, want) in said.probabilities.iter().zip(want) {
            assert!((got - want).abs() < 1e-3, "{:?}", said.probabilities);
        }
        // The steps are forgotten: the next question does not see them.
        assert_eq!(ask(&mut interview, &[70], Form::Choice(&choices)).reused, 6);
    }

    #[test]
    fn a_count_is_digits_and_ends_where_something_else_is_likelier() {
        fn says(asked: &[u32]) -> Vec<(u32, f32)> {
            match asked[1..] {
                // A word is likelier than each digit, but no number.
                [] => vec![(64, 5.0), (token("1"), 4.0), (token("7"), 1.0)],
                [one] if one == token("1") => vec![(token("2"), 5.0), (EOS, 3.0)],
                _ => vec![(token("."), 5.0), (token("3"), 3.0)],
            }
        }
        let visuals = visuals();
        let mut program = Counting::new(says);
        let mut interview = Interview::new(&mut program, demo(), &visuals);
        let said = ask(&mut interview, &[70], Form::Count);
        assert_eq!((said.text.as_str(), said.tokens_out), ("12", 2));
        let p = said.probability.unwrap();
        assert!((p - 0.953 * 0.881 * 0.881).abs() < 0.01, "{p}");
    }
}
