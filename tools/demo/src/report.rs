// SPDX-License-Identifier: MPL-2.0

//! What the user reads: each caption beside the truth, and the sum at the end.

use world::{PAIR_SECONDS, Street};

/// A caption as the element reported it.
pub struct Caption {
    /// What the model says.
    pub text: String,
    /// Time of the window's first frame on the stream.
    pub start: gst::ClockTime,
    /// Time of its last frame.
    pub end: gst::ClockTime,
    /// From the last frame to the message, as the application sees it.
    pub delay: Option<gst::ClockTime>,
}

/// Prints captions and counts those that are right.
pub struct Report<'a> {
    street: &'a Street,
    /// Whether the model was taught to say exactly what the street says.
    comparable: bool,
    captions: usize,
    right: usize,
}

impl<'a> Report<'a> {
    pub fn new(street: &'a Street, comparable: bool) -> Self {
        Self {
            street,
            comparable,
            captions: 0,
            right: 0,
        }
    }

    pub fn captions(&self) -> usize {
        self.captions
    }

    pub fn right(&self) -> usize {
        self.right
    }

    /// Prints one caption below what really happened.
    pub fn caption(&mut self, caption: &Caption) {
        let pair = (caption.start.mseconds() + 500) / 1000 / PAIR_SECONDS as u64;
        let truth = self.street.truth(pair as usize);
        let right = caption.text == truth;
        self.captions += 1;
        self.right += usize::from(right);
        let times = format!(
            "[{:4.1} s – {:4.1} s]",
            caption.start.mseconds() as f64 / 1000.0,
            caption.end.mseconds() as f64 / 1000.0
        );
        let delay = caption.delay.map_or(String::new(), |delay| {
            format!("{:.2} s later", delay.mseconds() as f64 / 1000.0)
        });
        let verdict = match (self.comparable, right) {
            (false, _) => "",
            (true, true) => "right, ",
            (true, false) => "not quite, ",
        };
        println!("{times}  street  {truth}");
        println!("{:17}  model   {}  ({verdict}{delay})\n", "", caption.text);
    }

    /// Prints the sum.
    pub fn sum(&self) {
        if self.comparable {
            println!(
                "{} captions, {} of them word for word what the street did.",
                self.captions, self.right
            );
        } else {
            println!("{} captions.", self.captions);
        }
    }
}
