// SPDX-License-Identifier: MPL-2.0

//! Looks after one camera on a thread of its own: opens it, listens, gives it up, tries again. Whatever
//! one camera does, the others do not notice.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::config::Camera as Asked;
use crate::heard::{Answer, Begin, Caption, End, Phase};
use crate::log;

use super::machine::{Act, Machine, Policy};

/// What a session says.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Pictures have come since the last time.
    Alive,
    Caption(Caption),
    /// The caption that is being made, so far.
    Partial(String),
    Answer(Answer),
    Begin(Begin),
    End(End),
    /// A window was kept from the model, since nothing moved.
    Gated,
    /// How things stand with the model.
    Model(Model),
    /// The answer to a question of somebody, or why there is none.
    Asked(u64, Result<String, String>),
    /// The session is of no more use.
    Failed(String),
    /// Another phase begins.
    Phase(Phase, String),
    /// The session is closed; what was open of it ends.
    Over,
}

/// How things stand with the model, as the element tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    Loading(f64),
    Well,
    Failing(String),
}

/// What a session is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A question about the moment, with the number of who asks.
    Ask(u64, String),
    /// Other questions, alarms or masks: nothing that needs another connection.
    Change(Box<Asked>),
}

/// A running pipeline.
pub trait Session: Send {
    /// What has happened; waits this long at most for something to.
    fn poll(&mut self, wait: Duration) -> Vec<Heard>;
    /// Takes a command.
    fn command(&mut self, command: Command) -> Option<Heard>;
    /// Ends it; this may take for ever.
    fn close(self: Box<Self>);
}

/// Opens sessions of one camera.
pub trait Camera {
    /// Begins one.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn open(&mut self) -> Result<Box<dyn Session>, String>;
    /// What is asked of the sessions that are opened from now on.
    fn change(&mut self, asked: &Asked);
}

/// Time, of the machine or of a test.
pub trait Clock {
    /// Since some moment.
    fn now(&self) -> Duration;
    /// Waits, or until the end is asked for.
    fn sleep(&self, time: Duration);
    /// Whether it is.
    fn ended(&self) -> bool;
}

/// The machine's time, and the wish to end.
#[derive(Debug)]
pub struct Stop {
    begin: Instant,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Not yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    /// Now.
    pub fn end(&self) {
        *self.ended.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Clock for Arc<Stop> {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn sleep(&self, time: Duration) {
        let ended = self.ended.lock().unwrap();
        drop(
            self.changed
                .wait_timeout_while(ended, time, |ended| !*ended),
        );
    }

    fn ended(&self) -> bool {
        *self.ended.lock().unwrap()
    }
}

/// How long a session is listened to before the clock is looked at.
const TURN: Duration = Duration::from_millis(200);

/// Looks after a camera until the end.
pub fn supervise(
    id: &str,
    camera: &mut dyn Camera,
    policy: Policy,
    clock: &dyn Clock,
    commands: &Receiver<Command>,
    tell: &mut dyn FnMut(Heard),
) {
    let seed = id.bytes().fold(clock.now().as_nanos() as u64, |sum, b| {
        sum.wrapping_mul(31) + u64::from(b)
    });
    let mut machine = Machine::new(policy, seed, clock.now());
    let mut session: Option<Box<dyn Session>> = None;
    let mut phase = None;
    while !clock.ended() {
        let now = clock.now();
        match machine.act(now) {
            Act::Open => match camera.open() {
                Ok(opened) => {
                    session = Some(opened);
                    machine.opened(clock.now());
                }
                Err(reason) => machine.failed(clock.now(), &reason),
            },
            Act::Close(reason) => {
                end(id, session.take(), policy.teardown, tell);
                machine.failed(clock.now(), &reason);
            }
            Act::Nothing => {}
        }
        let mut heard = Vec::new();
        for command in commands.try_iter() {
            if let Command::Change(asked) = &command {
                camera.change(asked);
            }
            heard.extend(match &mut session {
                Some(session) => session.command(command),
                None => refuse(command),
            });
        }
        match &mut session {
            Some(session) => heard.extend(session.poll(TURN)),
            None => clock.sleep(TURN),
        }
        for heard in heard {
            match heard {
                Heard::Alive => machine.alive(clock.now()),
                Heard::Failed(reason) => {
                    log::debug(format!("camera {id}: {reason}"));
                    end(id, session.take(), policy.teardown, tell);
                    machine.failed(clock.now(), &reason);
                    break;
                }
                other => tell(other),
            }
        }
        let (now, reason) = machine.phase(clock.now());
        if phase != Some(now) {
            phase = Some(now);
            tell(Heard::Phase(now, reason.to_owned()));
        }
    }
    end(id, session.take(), policy.teardown, tell);
}

/// Answers a question while there is nothing to see.
fn refuse(command: Command) -> Option<Heard> {
    match command {
        Command::Ask(number, _) => {
            let reason = "the camera shows nothing at the moment".to_owned();
            Some(Heard::Asked(number, Err(reason)))
        }
        Command::Change(_) => None,
    }
}

/// Ends a session on a thread of its own: a pipeline may hang, and then it is left behind.
fn end(id: &str, session: Option<Box<dyn Session>>, limit: Duration, tell: &mut dyn FnMut(Heard)) {
    let Some(session) = session else {
        return;
    };
    let (sender, receiver) = mpsc::channel();
    let body = move || {
        session.close();
        let _ = sender.send(());
    };
    let spawned = std::thread::Builder::new()
        .name("watch-close".into())
        .spawn(body);
    let closed = spawned.is_ok() && receiver.recv_timeout(limit).is_ok();
    if !closed {
        log::warning(format!(
            "camera {id}: its pipeline did not end within {} s and is left behind; the camera is tried again all the same",
            limit.as_secs()
        ));
    }
    tell(Heard::Over);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A clock that goes on when somebody waits, and ends after a while.
    #[derive(Clone)]
    struct FakeClock {
        millis: Arc<AtomicU64>,
        end: u64,
    }

    impl FakeClock {
        fn new(end_s: u64) -> Self {
            Self {
                millis: Arc::default(),
                end: 1_000 * end_s,
            }
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Duration {
            Duration::from_millis(self.millis.load(Ordering::SeqCst))
        }

        fn sleep(&self, time: Duration) {
            self.millis
                .fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        }

        fn ended(&self) -> bool {
            self.millis.load(Ordering::SeqCst) >= self.end
        }
    }

    /// A camera by a script: what happens at which second, the same for each session.
    struct FakeCamera {
        clock: FakeClock,
        /// Seconds in which there is no camera.
        gone: std::ops::Range<u64>,
        /// Whether sessions ever end.
        hangs: bool,
        opened: Rc<RefCell<Vec<f64>>>,
        released: Arc<AtomicBool>,
    }

    struct FakeSession {
        clock: FakeClock,
        gone: std::ops::Range<u64>,
        hangs: bool,
        released: Arc<AtomicBool>,
    }

    impl Camera for FakeCamera {
        fn open(&mut self) -> Result<Box<dyn Session>, String> {
            let now = self.clock.now().as_secs_f64();
            self.opened.borrow_mut().push(now);
            if self.gone.contains(&(now as u64)) {
                return Err("no route".into());
            }
            Ok(Box::new(FakeSession {
                clock: self.clock.clone(),
                gone: self.gone.clone(),
                hangs: self.hangs,
                released: self.released.clone(),
            }))
        }

        fn change(&mut self, _: &Asked) {}
    }

    impl Session for FakeSession {
        fn poll(&mut self, wait: Duration) -> Vec<Heard> {
            self.clock.sleep(wait);
            let there = !self.gone.contains(&self.clock.now().as_secs());
            there.then_some(Heard::Alive).into_iter().collect()
        }

        fn command(&mut self, command: Command) -> Option<Heard> {
            match command {
                Command::Ask(number, text) => Some(Heard::Asked(number, Ok(text))),
                Command::Change(_) => None,
            }
        }

        fn close(self: Box<Self>) {
            while self.hangs && !self.released.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }

    /// Phases with the second at which each began, and when the camera was opened.
    fn watch(end_s: u64, gone: std::ops::Range<u64>, hangs: bool) -> (Vec<(f64, Phase)>, Vec<f64>) {
        let clock = FakeClock::new(end_s);
        let opened = Rc::new(RefCell::new(Vec::new()));
        let released = Arc::new(AtomicBool::new(false));
        let mut camera = FakeCamera {
            clock: clock.clone(),
            gone,
            hangs,
            opened: opened.clone(),
            released: released.clone(),
        };
        let policy = Policy {
            teardown: Duration::from_millis(30),
            ..Policy::new(Duration::from_secs(30))
        };
        let (_sender, commands) = mpsc::channel();
        let mut phases = Vec::new();
        supervise(
            "front",
            &mut camera,
            policy,
            &clock,
            &commands,
            &mut |heard| {
                if let Heard::Phase(phase, _) = heard {
                    phases.push((clock.now().as_secs_f64(), phase));
                }
            },
        );
        released.store(true, Ordering::SeqCst);
        (phases, opened.take())
    }

    #[test]
    fn a_camera_that_goes_and_comes_is_live_stalled_offline_and_live_again() {
        let (phases, opened) = watch(200, 50..120, false);
        let words: Vec<Phase> = phases.iter().map(|(_, phase)| *phase).collect();
        assert_eq!(
            words,
            [Phase::Live, Phase::Stalled, Phase::Offline, Phase::Live]
        );
        // The last picture came just before second 50.
        assert!((54.0..56.0).contains(&phases[1].0), "{phases:?}");
        assert!((79.0..81.0).contains(&phases[2].0), "{phases:?}");
        assert!((120.0..160.0).contains(&phases[3].0), "{phases:?}");
        assert!((5..=9).contains(&opened.len()), "{opened:?}");
    }

    #[test]
    fn a_blip_is_never_called_offline() {
        let (phases, _) = watch(100, 50..58, false);
        assert!(
            phases.iter().all(|(_, phase)| *phase != Phase::Offline),
            "{phases:?}"
        );
        assert_eq!(phases.last().unwrap().1, Phase::Live);
    }

    #[test]
    fn a_pipeline_that_never_ends_is_left_behind_and_the_camera_comes_back() {
        let begin = Instant::now();
        let (phases, opened) = watch(120, 50..56, true);
        assert_eq!(phases.last().unwrap().1, Phase::Live);
        assert!(opened.len() >= 2);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_question_to_a_camera_that_shows_nothing_is_answered_with_the_reason() {
        let clock = FakeClock::new(3);
        let mut camera = FakeCamera {
            clock: clock.clone(),
            gone: 0..10,
            hangs: false,
            opened: Rc::default(),
            released: Arc::default(),
        };
        let (sender, commands) = mpsc::channel();
        sender.send(Command::Ask(7, "who?".into())).unwrap();
        let mut answers = Vec::new();
        let policy = Policy::new(Duration::from_secs(30));
        supervise(
            "front",
            &mut camera,
            policy,
            &clock,
            &commands,
            &mut |heard| {
                if let Heard::Asked(number, answer) = heard {
                    answers.push((number, answer));
                }
            },
        );
        assert!(matches!(answers.as_slice(), [(7, Err(_))]), "{answers:?}");
    }

    #[test]
    fn the_end_is_not_waited_for_in_a_sleep() {
        let stop = Stop::new();
        let other = stop.clone();
        let begin = Instant::now();
        let thread = std::thread::spawn(move || other.sleep(Duration::from_secs(60)));
        stop.end();
        thread.join().unwrap();
        assert!(stop.ended() && begin.elapsed() < Duration::from_secs(30));
    }
}
