// SPDX-License-Identifier: MPL-2.0

//! What a caption says: the grammar that the demo model was trained on.

/// The colours in the order in which a caption names them, each with a pure tone.
pub(crate) const COLORS: [(&str, [u8; 3]); 8] = [
    ("red", [230, 20, 25]),
    ("orange", [250, 135, 10]),
    ("yellow", [245, 238, 20]),
    ("green", [15, 200, 25]),
    ("cyan", [20, 225, 235]),
    ("blue", [25, 45, 235]),
    ("magenta", [235, 25, 230]),
    ("white", [248, 248, 248]),
];

/// One of eight, as seen on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Direction {
    /// Eighths of a turn, clockwise from right.
    eighths: u8,
}

impl Direction {
    const WORDS: [&str; 8] = [
        "right",
        "down-right",
        "down",
        "down-left",
        "left",
        "up-left",
        "up",
        "up-right",
    ];

    /// The direction with this number: 0 is right, then clockwise.
    pub(crate) fn numbered(number: usize) -> Self {
        Self {
            eighths: (number % 8) as u8,
        }
    }

    /// The direction of a step and the degrees to the boundary of its sector, 0..=22.5.
    ///
    /// `y` grows downwards.
    pub fn of_step(dx: f32, dy: f32) -> (Self, f32) {
        let degrees = dy.atan2(dx).to_degrees().rem_euclid(360.0);
        let sector = (degrees / 45.0).round();
        let direction = Self::numbered(sector as usize);
        (direction, 22.5 - (degrees - 45.0 * sector).abs())
    }

    /// Radians clockwise from right.
    pub(crate) fn angle(self) -> f32 {
        f32::from(self.eighths) * std::f32::consts::FRAC_PI_4
    }

    pub(crate) fn is_diagonal(self) -> bool {
        self.eighths % 2 == 1
    }

    /// The word for it in a caption.
    pub fn word(self) -> &'static str {
        Self::WORDS[usize::from(self.eighths)]
    }
}

/// What an object does between the two frames of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Motion {
    /// It is in the same place.
    Still,
    /// It goes somewhere.
    Moves(Direction),
}

/// The one right answer to "Describe the video.".
///
/// Each object is its colour, its shape and what it does in each pair; they are in the order of
/// the colours already. Nothing is `An empty street.`, which no model was taught to say.
pub fn caption(things: &[(&str, &str, &[Motion])]) -> String {
    let phrases: Vec<String> = things
        .iter()
        .map(|(color, shape, motions)| {
            let article = if color.starts_with(['a', 'e', 'i', 'o']) {
                "an"
            } else {
                "a"
            };
            format!("{article} {color} {shape} {}", motion_phrase(motions))
        })
        .collect();
    let text = match phrases.split_last() {
        None => return "An empty street.".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    };
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}

/// `moves up-left then down then stays still`: equal neighbours are one, and a direction after a
/// direction has no verb.
fn motion_phrase(motions: &[Motion]) -> String {
    let mut merged = motions.to_vec();
    merged.dedup();
    let mut words = Vec::new();
    let mut moving = false;
    for motion in merged {
        match motion {
            Motion::Still => words.push("stays still".to_owned()),
            Motion::Moves(direction) if moving => words.push(direction.word().to_owned()),
            Motion::Moves(direction) => words.push(format!("moves {}", direction.word())),
        }
        moving = matches!(motion, Motion::Moves(_));
    }
    words.join(" then ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(number: usize) -> Motion {
        Motion::Moves(Direction::numbered(number))
    }

    #[test]
    fn captions_read_as_the_model_was_taught() {
        let turns = [moves(5), moves(5), moves(2), Motion::Still];
        assert_eq!(
            caption(&[("red", "circle", &turns)]),
            "A red circle moves up-left then down then stays still."
        );
        assert_eq!(
            caption(&[
                ("orange", "square", &[moves(0)]),
                ("blue", "circle", &[Motion::Still]),
                ("white", "triangle", &[moves(6)]),
            ]),
            "An orange square moves right, a blue circle stays still and a white triangle moves up."
        );
    }

    #[test]
    fn a_step_has_the_nearest_direction() {
        let (direction, margin) = Direction::of_step(10.0, 0.5);
        assert_eq!(direction.word(), "right");
        assert!(margin > 19.0);
        assert_eq!(Direction::of_step(-5.0, -5.0).0.word(), "up-left");
        assert_eq!(Direction::of_step(5.0, -1.0).0.word(), "right");
        assert_eq!(Direction::of_step(0.0, 3.0).0.word(), "down");
    }
}
