// SPDX-License-Identifier: MPL-2.0

//! What is asked about windows: prompts and their variables, kinds of questions, questions that are
//! asked once, and the alarms that answers raise.

pub mod alarm;
pub mod inquiry;
pub mod prompt;
pub mod question;
