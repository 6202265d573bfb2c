// SPDX-License-Identifier: MPL-2.0

//! A street of shapes that goes on and on: what `cargo xtask demo` shows.

use crate::canvas::{Canvas, Shape};
use crate::random::Random;
use crate::words::{COLORS, Direction, Motion, caption};

/// Seconds from the first frame of one pair to the first frame of the next, at one sample a second.
pub const PAIR_SECONDS: usize = 2;

/// Pairs for which the same objects stay.
const SCENE_PAIRS: usize = 2;
const SCENE_SECONDS: usize = SCENE_PAIRS * PAIR_SECONDS;

/// The canvas that positions refer to, in pixels: 4x3 visual tokens.
const CANVAS: [f32; 2] = [128.0, 96.0];

/// Asphalt, night, a dark blue and a grey; every colour stands out from each.
const BACKGROUNDS: [[u8; 3]; 4] = [[25, 25, 25], [0, 0, 0], [10, 15, 70], [70, 70, 75]];

/// Degrees either side of a direction; the model was taught 10.
const ANGLE_SPREAD: f32 = 7.0;

/// Seconds of the street, in scenes of [`SCENE_SECONDS`] each.
///
/// One to three objects are in each scene; each goes one of eight ways or stands still, and may
/// change its mind after a pair. One always moves. They are always whole, and never touch. Objects move evenly
/// between the seconds, so it does not matter if a frame is sampled a little late.
#[derive(Debug, Clone)]
pub struct Street {
    scenes: Vec<Scene>,
}

#[derive(Debug, Clone)]
struct Scene {
    background: [u8; 3],
    actors: Vec<Actor>,
}

/// What an actor is and does.
#[derive(Debug, Clone)]
struct Role {
    /// Index in [`COLORS`].
    color: usize,
    shape: Shape,
    motions: [Motion; SCENE_PAIRS],
}

/// A role with its size and places.
#[derive(Debug, Clone)]
struct Actor {
    role: Role,
    radius: f32,
    /// Centres at each second of the scene, its end included.
    path: [[f32; 2]; SCENE_SECONDS + 1],
}

impl Street {
    /// A street of at least this many seconds; each seed is another one.
    pub fn new(seed: u64, seconds: usize) -> Self {
        let mut random = Random::new(seed);
        let count = seconds.div_ceil(SCENE_SECONDS).max(1);
        Self {
            scenes: (0..count).map(|_| Scene::random(&mut random)).collect(),
        }
    }

    /// Draws the street at this time in seconds; after its end it begins again.
    pub fn draw(&self, seconds: f64, width: usize, height: usize) -> Canvas {
        let length = (self.scenes.len() * SCENE_SECONDS) as f64;
        let seconds = seconds.rem_euclid(length);
        let index = (seconds / SCENE_SECONDS as f64) as usize % self.scenes.len();
        let scene = &self.scenes[index];
        let time = (seconds - (index * SCENE_SECONDS) as f64) as f32;
        let scale = [width as f32 / CANVAS[0], height as f32 / CANVAS[1]];
        let mut canvas = Canvas::filled(width, height, scene.background);
        for actor in &scene.actors {
            let at = actor.at(time);
            canvas.paint(
                actor.role.shape,
                [at[0] * scale[0], at[1] * scale[1]],
                scale.map(|factor| actor.radius * factor),
                COLORS[actor.role.color].1,
            );
        }
        canvas
    }

    /// What happens in a pair, counted from the beginning: the right caption for its two frames.
    pub fn truth(&self, pair: usize) -> String {
        let scene = &self.scenes[(pair / SCENE_PAIRS) % self.scenes.len()];
        let motion = pair % SCENE_PAIRS;
        let things: Vec<_> = scene
            .actors
            .iter()
            .map(|actor| {
                let motions = std::slice::from_ref(&actor.role.motions[motion]);
                (COLORS[actor.role.color].0, actor.role.shape.word(), motions)
            })
            .collect();
        caption(&things)
    }
}

impl Scene {
    fn random(random: &mut Random) -> Self {
        loop {
            let roles = random_roles(random);
            let background = BACKGROUNDS[random.below(BACKGROUNDS.len())];
            // Roles stay while places are tried, or scenes in which nothing moves, which fit best,
            // would be most of the street.
            for _ in 0..500 {
                let mut actors: Vec<Actor> = Vec::new();
                for role in &roles {
                    let actor = Actor::placed(role.clone(), random, roles.len());
                    if actor.is_inside() && !actors.iter().any(|other| actor.touches(other)) {
                        actors.push(actor);
                    }
                }
                if actors.len() == roles.len() {
                    actors.sort_by_key(|actor| actor.role.color);
                    return Self { background, actors };
                }
            }
        }
    }
}

/// One to three roles of different colours, the first of which moves all the time.
fn random_roles(random: &mut Random) -> Vec<Role> {
    let count = [1, 2, 2, 3][random.below(4)];
    let mut roles: Vec<Role> = Vec::new();
    while roles.len() < count {
        let may_stand = !roles.is_empty();
        let first = random_motion(random, may_stand);
        let second = match random.below(2) {
            0 => first,
            _ => random_motion(random, may_stand),
        };
        let color = random.below(COLORS.len());
        if roles.iter().all(|role| role.color != color) {
            roles.push(Role {
                color,
                shape: [Shape::Circle, Shape::Square, Shape::Triangle][random.below(3)],
                motions: [first, second],
            });
        }
    }
    roles
}

impl Actor {
    /// Puts a role anywhere on the canvas, one of `count`; its way may lead off the canvas.
    fn placed(role: Role, random: &mut Random, count: usize) -> Self {
        let radius = match count {
            1 => random.between(12.0, 18.0),
            _ => random.between(10.0, 14.0),
        };
        let mut at = [
            random.between(radius, CANVAS[0] - radius),
            random.between(radius, CANVAS[1] - radius),
        ];
        let mut path = [at; SCENE_SECONDS + 1];
        for (pair, motion) in role.motions.into_iter().enumerate() {
            let step = step(random, motion);
            for second in 0..PAIR_SECONDS {
                at = [at[0] + step[0], at[1] + step[1]];
                path[pair * PAIR_SECONDS + second + 1] = at;
            }
        }
        Self { role, radius, path }
    }

    /// Its centre at this second of the scene.
    fn at(&self, time: f32) -> [f32; 2] {
        let second = (time as usize).min(SCENE_SECONDS - 1);
        let share = (time - second as f32).clamp(0.0, 1.0);
        let [from, to] = [self.path[second], self.path[second + 1]];
        [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * share)
    }

    /// Whether it is whole all the time.
    fn is_inside(&self) -> bool {
        let room = self.radius + 1.0;
        self.path
            .iter()
            .all(|at| (0..2).all(|axis| (room..=CANVAS[axis] - room).contains(&at[axis])))
    }

    /// Whether it ever comes near the other one; looked at eight times a second.
    fn touches(&self, other: &Self) -> bool {
        let near = (self.radius + other.radius) * 1.12 + 1.0;
        (0..=SCENE_SECONDS * 8).any(|eighth| {
            let [a, b] = [self, other].map(|actor| actor.at(eighth as f32 / 8.0));
            (a[0] - b[0]).hypot(a[1] - b[1]) < near
        })
    }
}

/// One of eight directions; one time in five it stands, if it may.
fn random_motion(random: &mut Random, may_stand: bool) -> Motion {
    if may_stand && random.below(5) == 0 {
        return Motion::Still;
    }
    Motion::Moves(Direction::numbered(random.below(8)))
}

/// The way of one second: longer along the canvas than across, since there is more room; a diagonal
/// is never short, since it is harder to tell.
fn step(random: &mut Random, motion: Motion) -> [f32; 2] {
    let Motion::Moves(direction) = motion else {
        return [0.0; 2];
    };
    let length = if direction.is_diagonal() {
        random.between(13.0, 17.0)
    } else if matches!(direction.word(), "left" | "right") {
        random.between(12.0, 21.0)
    } else {
        random.between(11.0, 15.0)
    };
    let spread = random.between(-ANGLE_SPREAD, ANGLE_SPREAD).to_radians();
    let angle = direction.angle() + spread;
    [length * angle.cos(), length * angle.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actors(street: &Street) -> impl Iterator<Item = &Actor> {
        street.scenes.iter().flat_map(|scene| &scene.actors)
    }

    #[test]
    fn the_truth_is_what_the_sampled_frames_show() {
        let street = Street::new(3, 400);
        for actor in actors(&street) {
            for (pair, motion) in actor.role.motions.iter().enumerate() {
                let [from, to] = [2 * pair, 2 * pair + 1].map(|second| actor.at(second as f32));
                let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
                match motion {
                    Motion::Still => assert_eq!((dx, dy), (0.0, 0.0)),
                    Motion::Moves(direction) => {
                        let (seen, margin) = Direction::of_step(dx, dy);
                        assert_eq!(seen, *direction);
                        assert!(margin > 15.0 && dx.hypot(dy) > 10.0, "{dx} {dy}");
                    }
                }
            }
        }
    }

    #[test]
    fn something_moves_in_every_pair() {
        let street = Street::new(2, 400);
        assert!((0..200).all(|pair| street.truth(pair).contains("moves")));
    }

    #[test]
    fn colours_in_a_scene_differ_and_objects_stay_whole() {
        let street = Street::new(11, 400);
        assert!(actors(&street).all(Actor::is_inside));
        for scene in &street.scenes {
            let mut colors: Vec<usize> =
                scene.actors.iter().map(|actor| actor.role.color).collect();
            let count = colors.len();
            assert!(colors.is_sorted());
            colors.dedup();
            assert_eq!(colors.len(), count);
        }
    }

    #[test]
    fn a_seed_is_always_the_same_street_and_another_seed_another() {
        let truths = |seed| -> Vec<String> {
            let street = Street::new(seed, 40);
            (0..20).map(|pair| street.truth(pair)).collect()
        };
        assert_eq!(truths(1), truths(1));
        assert_ne!(truths(1), truths(2));
    }

    #[test]
    fn the_picture_shows_the_colours_of_the_caption() {
        let street = Street::new(5, 40);
        for second in 0..40 {
            let frame = street.draw(second as f64, 320, 240);
            let scene = &street.scenes[second / SCENE_SECONDS];
            for actor in &scene.actors {
                let at = actor.at((second % SCENE_SECONDS) as f32);
                let pixel = frame.pixel((at[0] * 2.5) as usize, (at[1] * 2.5) as usize);
                assert_eq!(pixel, COLORS[actor.role.color].1);
            }
        }
    }
}
