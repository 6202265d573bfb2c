// SPDX-License-Identifier: MPL-2.0

//! What the writing thread does, without the thread and the clock: what it is given it puts together,
//! and writes when it is time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::heard::{Answer, Begin, Caption, Clip, End, Lull, Phase};
use crate::log;
use crate::time::{Millis, Week};

use super::db;
use super::error::Error;
use super::files::{self, Layout, Lock};
use super::pack::Packs;
use super::retention::{self, Limits};
use super::state::{Mark, Minute, MinuteKey, State};
use super::tracing::Traces;
use super::week::{Row, WeekFile};

/// What is lost at most when the power goes.
pub const BATCH: Duration = Duration::from_secs(10);
/// How old what the index does not know may be.
const INDEX: Duration = Duration::from_secs(60);
/// How often is looked for what is too old or too much.
const RETENTION: Duration = Duration::from_secs(600);
/// A row stands for captions of this time at most, so that one is found by when it was.
pub const LONGEST_ROW: Duration = Duration::from_secs(600);
/// Rows that wait for a disk that takes none; the oldest go first.
const MOST_WAITING: usize = 20_000;
/// A batch is written early at this size.
const FULL_BATCH: usize = 2_000;

/// Something to be kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Caption(String, Caption),
    Answer(String, Answer),
    Begin(String, Begin),
    End(String, End),
    Phase(String, Phase, String, Millis),
    /// Nothing is said of a camera that shows something, or it was so.
    Lull(String, Lull),
    /// A camera's pipeline is gone: what is open of it ends.
    Over(String, Millis),
    /// What became of the clip of an event.
    Clip(i64, Result<Clip, String>),
    /// Nobody is to be told of a camera's alarms until then.
    Snooze(String, Millis),
}

/// What is on the disk now, for whoever does something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An event has begun.
    Began {
        id: i64,
        camera: String,
        alarm: String,
        at: Millis,
        /// There is room for more than words.
        room: bool,
    },
    /// It has ended.
    Ended { id: i64, at: Millis },
}

/// Is told; he must not wait.
pub type Teller = Box<dyn Fn(&Told) + Send>;

/// How things stand with the store, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub captions: u64,
    pub events: u64,
    /// Captions that could not be kept.
    pub lost: u64,
    /// What does not work at the moment, and what to do.
    pub trouble: Option<String>,
    /// Something that happened to the store at this start or since.
    pub notes: Vec<String>,
    /// Room is so short that pictures are no longer stored.
    pub at_the_floor: bool,
}

/// The one writer.
pub struct Keeper {
    layout: Layout,
    limits: Limits,
    lock: Lock,
    state: State,
    week: Option<WeekFile>,
    packs: Packs,
    waiting: VecDeque<Waiting>,
    longer: HashMap<i64, (Millis, u32)>,
    minutes: BTreeMap<MinuteKey, Minute>,
    last: HashMap<String, Last>,
    /// Events, ends and phases that the disk did not take yet, in order.
    owed: VecDeque<Item>,
    open_events: HashMap<(String, u64), i64>,
    written: Millis,
    indexed: Millis,
    looked: Millis,
    status: Status,
    traces: Traces,
    tellers: Vec<Teller>,
}

/// A row that is not written yet, and the picture that goes with it.
#[derive(Debug)]
struct Waiting {
    row: Row,
    thumb: Option<std::sync::Arc<[u8]>>,
}

/// The row that a camera's next caption may extend.
#[derive(Debug)]
struct Last {
    text: String,
    model: String,
    start: Millis,
    until: Millis,
    count: u32,
    /// Its number once it is written.
    id: Option<i64>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Keeper")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Opens the store, repairs what a process before this one left, and deletes what is too old.
    pub fn open(layout: Layout, limits: Limits, now: Millis) -> Result<Self, Error> {
        layout.make()?;
        files::is_local(&layout.root)?;
        let lock = Lock::take(&layout)?;
        let mut status = Status::default();
        if lock.unclean {
            set_aside_if_damaged(&layout.state(), &mut status.notes)?;
            if let Some(week) = layout.weeks().last() {
                set_aside_if_damaged(&layout.week(*week), &mut status.notes)?;
            }
        }
        let state = State::open(&layout.state())?;
        let n_open = state.end_all(now, "crash")?;
        if n_open > 0 {
            status.notes.push(format!("{n_open} alarms were open when the program before this one ended; they end now, reason=crash"));
        }
        let packs = Packs::new(layout.thumbs());
        let mut keeper = Self {
            layout,
            limits,
            lock,
            state,
            week: None,
            packs,
            waiting: VecDeque::new(),
            longer: HashMap::new(),
            minutes: BTreeMap::new(),
            last: HashMap::new(),
            owed: VecDeque::new(),
            open_events: HashMap::new(),
            written: now,
            indexed: now,
            looked: now,
            status,
            traces: Traces::default(),
            tellers: Vec::new(),
        };
        keeper.status.notes.iter().for_each(log::warning);
        keeper.forget(now);
        Ok(keeper)
    }

    /// Has somebody told of events once they are on the disk.
    pub fn tell(&mut self, teller: Teller) {
        self.tellers.push(teller);
    }

    /// The cameras of whose alarms nobody is told, and until when.
    pub fn snoozed(&self, now: Millis) -> Result<Vec<(String, Millis)>, Error> {
        self.state.snoozed(now)
    }

    /// Changes what people say of an event; false if there is none of this number.
    pub fn mark(&mut self, id: i64, mark: &Mark) -> Result<bool, Error> {
        self.state.mark(id, mark)
    }

    fn told(&self, told: &Told) {
        self.tellers.iter().for_each(|teller| teller(told));
    }

    /// Takes something in; events go to the disk at once, captions with their batch.
    pub fn take(&mut self, item: Item, now: Millis) {
        match item {
            Item::Caption(camera, caption) => self.caption(camera, caption),
            Item::Answer(camera, answer) => {
                self.traces.answer(&camera, &answer);
                let key = (answer.at.minute(), camera, answer.alarm);
                let add = |minute: &mut Minute| minute.add(answer.probability);
                self.minutes
                    .entry(key)
                    .and_modify(add)
                    .or_insert(Minute::of(answer.probability));
            }
            other => {
                self.owed.push_back(other);
                self.settle();
            }
        }
        if self.waiting.len() >= FULL_BATCH && self.status.trouble.is_none() {
            self.write(now);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Millis) {
        // A clock that was set back must not make a batch wait for hours.
        let due = |last: Millis, every: Duration| now < last || last.plus(every) <= now;
        if due(self.written, BATCH) {
            self.settle();
            self.write(now);
        }
        if due(self.indexed, INDEX) {
            self.indexed = now;
            let outcome = self.week.as_mut().map_or(Ok(0), WeekFile::index);
            self.note(outcome.map(|_| ()));
        }
        if due(self.looked, RETENTION) {
            self.forget(now);
        }
    }

    /// Writes all that waits and closes the files.
    pub fn close(mut self, now: Millis) -> Status {
        self.settle();
        self.write(now);
        let outcome = self.week.take().map_or(Ok(()), WeekFile::close);
        self.note(outcome);
        if self.status.trouble.is_none() {
            drop(self.state);
            self.lock.clean();
        }
        self.status
    }

    /// How things stand.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A caption becomes a row, or makes the camera's last one longer.
    fn caption(&mut self, camera: String, caption: Caption) {
        if let Some(last) = self
            .last
            .get_mut(&camera)
            .filter(|last| last.goes_on(&caption))
        {
            last.until = caption.end;
            last.count += 1;
            match last.id {
                Some(id) => {
                    self.longer.insert(id, (last.until, last.count));
                }
                None => {
                    let own = self
                        .waiting
                        .iter_mut()
                        .rev()
                        .find(|waiting| waiting.row.camera == camera);
                    if let Some(waiting) = own {
                        waiting.row.until = last.until;
                        waiting.row.count = last.count;
                    }
                }
            }
            return;
        }
        self.last.insert(
            camera.clone(),
            Last {
                text: caption.text.clone(),
                model: caption.model.clone(),
                start: caption.start,
                until: caption.end,
                count: 1,
                id: None,
            },
        );
        let row = Row {
            camera,
            start: caption.start,
            end: caption.end,
            until: caption.end,
            count: 1,
            text: caption.text,
            model: caption.model,
            spot: None,
        };
        let thumb = caption.thumb.filter(|_| !self.status.at_the_floor);
        self.waiting.push_back(Waiting { row, thumb });
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
            self.status.lost += 1;
        }
    }

    /// Writes what waits.
    fn write(&mut self, now: Millis) {
        self.written = now;
        let outcome = self.write_rows(now).and_then(|()| self.write_minutes());
        if let (Err(error), Some(week)) = (&outcome, self.week.as_ref().map(|file| file.week))
            && error.is_damage()
        {
            self.week = None;
            self.last.clear();
            self.longer.clear();
            let path = self.layout.week(week);
            let outcome = set_aside(&path, &error.to_string(), &mut self.status.notes);
            self.note(outcome);
            return;
        }
        self.note(outcome);
    }

    fn write_rows(&mut self, now: Millis) -> Result<(), Error> {
        if self.waiting.is_empty() && self.longer.is_empty() {
            return Ok(());
        }
        let week = Week::of(now);
        if self.week.as_ref().is_some_and(|file| file.week != week)
            && let Some(before) = self.week.take()
        {
            // Numbers are those of the file before.
            self.last
                .values_mut()
                .filter(|last| last.id.is_some())
                .for_each(Last::end);
            let mut before = before;
            before.write(&[], &std::mem::take(&mut self.longer))?;
            before.close()?;
        }
        for waiting in &mut self.waiting {
            let Some(thumb) = waiting.thumb.take() else {
                continue;
            };
            match self
                .packs
                .append(&waiting.row.camera, waiting.row.end, &thumb)
            {
                Ok(spot) => waiting.row.spot = Some(spot),
                // Words are worth more than the picture beside them.
                Err(error) => log::warning(format!("a picture is not kept: {error}")),
            }
        }
        let file = match &mut self.week {
            Some(file) => file,
            none => none.insert(WeekFile::open(&self.layout.week(week), week)?),
        };
        let rows: Vec<Row> = self
            .waiting
            .iter()
            .map(|waiting| waiting.row.clone())
            .collect();
        let ids = file.write(&rows, &self.longer)?;
        for (row, id) in rows.iter().zip(&ids) {
            if let Some(last) = self
                .last
                .get_mut(&row.camera)
                .filter(|last| last.start == row.start)
            {
                last.id = Some(*id);
            }
        }
        self.status.captions += rows.len() as u64;
        self.waiting.clear();
        self.longer.clear();
        Ok(())
    }

    fn write_minutes(&mut self) -> Result<(), Error> {
        if !self.minutes.is_empty() {
            self.state.answers(&self.minutes)?;
            self.minutes.clear();
        }
        let points = self.traces.points();
        if !points.is_empty() {
            self.state.trace(points)?;
            self.traces.written();
        }
        Ok(())
    }

    /// Writes events and phases, in order, as far as the disk takes them.
    fn settle(&mut self) {
        while let Some(item) = self.owed.front().cloned() {
            if let Err(error) = self.keep(&item) {
                self.note(Err(error));
                return;
            }
            self.owed.pop_front();
        }
    }

    fn keep(&mut self, item: &Item) -> Result<(), Error> {
        match item {
            Item::Begin(camera, begin) => {
                let caption = self.last.get(camera).map_or("", |last| last.text.as_str());
                let id = self.state.begin(camera, begin, caption)?;
                self.open_events.insert((camera.clone(), begin.number), id);
                self.status.events += 1;
                self.traces.begin(id, camera, &begin.alarm, begin.at);
                self.told(&Told::Began {
                    id,
                    camera: camera.clone(),
                    alarm: begin.alarm.clone(),
                    at: begin.at,
                    room: !self.status.at_the_floor,
                });
            }
            Item::End(camera, end) => {
                self.end((camera.clone(), end.number), end)?;
            }
            Item::Phase(camera, phase, reason, at) => {
                self.state.phase(camera, *phase, reason, *at)?
            }
            Item::Over(camera, at) => {
                let open: Vec<_> = self
                    .open_events
                    .keys()
                    .filter(|(of, _)| of == camera)
                    .cloned()
                    .collect();
                for key in open {
                    let end = End {
                        number: key.1,
                        alarm: String::new(),
                        at: *at,
                        peak: None,
                        reason: "stop".into(),
                    };
                    self.end(key, &end)?;
                }
            }
            Item::Lull(camera, lull) => self.state.lull(camera, lull)?,
            Item::Clip(id, outcome) => self.state.clip(*id, outcome)?,
            Item::Snooze(camera, until) => self.state.snooze(camera, *until)?,
            Item::Caption(..) | Item::Answer(..) => {}
        }
        Ok(())
    }

    fn end(&mut self, key: (String, u64), end: &End) -> Result<(), Error> {
        let Some(id) = self.open_events.get(&key).copied() else {
            return Ok(());
        };
        self.state.end(id, end)?;
        self.open_events.remove(&key);
        self.traces.end(id, end.at);
        self.told(&Told::Ended { id, at: end.at });
        Ok(())
    }

    /// Deletes what is too old or too much.
    fn forget(&mut self, now: Millis) {
        self.looked = now;
        let Ok(free) = files::free(&self.layout.root) else {
            return;
        };
        let standings = match self.state.standings() {
            Ok(standings) => standings,
            // What is starred is not known, so nothing is deleted.
            Err(error) => return self.note(Err(error)),
        };
        let kept = retention::look(&self.layout, &standings, now);
        let plan = retention::plan(&kept, &self.limits, free, now);
        for path in &plan.delete {
            match retention::delete(path) {
                Ok(()) => log::info(format!(
                    "deleted {}, as the limits of [storage] ask",
                    path.display()
                )),
                Err(error) => {
                    log::warning(format!("{} cannot be deleted: {error}", path.display()))
                }
            }
        }
        if plan.at_the_floor && !self.status.at_the_floor {
            log::error(
                "the disk has no room for more pictures and clips: captions go on without; raise max-size, lower keep-free or make room",
            );
        }
        self.status.at_the_floor = plan.at_the_floor;
        let outcome = self.state.forget_before(now.minus(self.limits.captions));
        self.note(outcome);
    }

    /// Remembers how the last write ended, and says it once.
    fn note(&mut self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => {
                if self.status.trouble.take().is_some() {
                    log::info("the store takes what it is given again");
                }
            }
            Err(error) => {
                let fix = if error.is_full() {
                    "the disk is full: make room, nothing else is needed"
                } else {
                    "it is tried again every 10 s"
                };
                let text = format!("captions wait to be kept: {error}; {fix}");
                if self.status.trouble.as_ref() != Some(&text) {
                    log::error(&text);
                }
                self.status.trouble = Some(text);
            }
        }
    }
}

impl Last {
    /// Whether this caption says the same, at once and of the same model.
    fn goes_on(&self, caption: &Caption) -> bool {
        self.text == caption.text
            && self.model == caption.model
            && caption.start >= self.start
            && caption.start <= self.until.plus(Duration::from_secs(60))
            && caption.end <= self.start.plus(LONGEST_ROW)
    }

    /// No caption extends it.
    fn end(&mut self) {
        self.start = Millis(i64::MAX);
    }
}

/// Sets a database aside that is not sound.
fn set_aside_if_damaged(path: &std::path::Path, notes: &mut Vec<String>) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    match db::damage(path) {
        None => Ok(()),
        Some(damage) => set_aside(path, &damage, notes),
    }
}

fn set_aside(path: &std::path::Path, damage: &str, notes: &mut Vec<String>) -> Result<(), Error> {
    let stamp = Millis::now().0;
    for end in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(end);
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".damaged-{stamp}{end}"));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(path)(error)),
        }
    }
    let note = format!(
        "{} is damaged ({damage}); it is set aside beside it as .damaged-{stamp}, and a new one begins. `restore` brings a backup back",
        path.display()
    );
    log::error(&note);
    notes.push(note);
    Ok(())
}
