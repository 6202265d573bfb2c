// SPDX-License-Identifier: MPL-2.0

//! The two kinds of devices and the checked functions of each.

use crate::card::Card;
use crate::soc::Soc;

/// Which of the two APIs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The program runs on the chip: libax_engine and libax_sys.
    Soc,
    /// The chip is on a card: libaxcl_rt.
    Card,
}

/// The functions of one kind.
pub(crate) enum Functions {
    Soc(Box<Soc>),
    Card(Box<Card>),
}
