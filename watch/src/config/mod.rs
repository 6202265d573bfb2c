// SPDX-License-Identifier: MPL-2.0

//! The configuration: one TOML file comes in, and what goes on can only hold working values.

pub mod around;
pub mod door;
pub mod file;
pub mod nearest;
pub mod out;
pub mod units;
pub mod url;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::search::Synonyms;
use crate::secret::{self, Secret};
use around::Ways;
pub use around::{Process, Surroundings};
use file::{Alarm, Asked, Decode, File, Mask, Model};
use url::Place;

/// Everything that was asked for.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the page is, if there is one.
    pub listen: Option<SocketAddr>,
    pub storage: Storage,
    pub model: Model,
    pub cameras: Vec<Camera>,
    /// Who is told of alarms besides the page.
    pub out: out::Out,
    /// How the page is reached.
    pub door: door::Door,
    /// What is meant by a word as well, when somebody looks for it.
    pub synonyms: Synonyms,
    /// What works, and could be better: shown by `check` and at the start.
    pub advice: Vec<String>,
}

/// What is kept, where, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub path: PathBuf,
    pub max_size: u64,
    pub keep_free: u64,
    pub keep_captions: Duration,
    pub keep_thumbnails: Duration,
    pub keep_clips: Duration,
}

/// One camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    pub id: String,
    pub name: String,
    pub place: Place,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub enabled: bool,
    pub decode: Decode,
    pub offline_after: Duration,
    pub masks: Vec<Mask>,
    pub unmasked_video: bool,
    pub alarms: Vec<Alarm>,
    pub prompt: String,
    pub window: u32,
    pub stride: u32,
    pub motion_threshold: f64,
    pub heartbeat: Duration,
    pub max_tokens: Option<u32>,
}

impl Camera {
    /// Whether people may see its video as it comes, and if not why.
    pub fn video(&self) -> Result<(), &'static str> {
        if matches!(self.place, Place::Test(_)) {
            Err("a test picture is not coded")
        } else if !self.masks.is_empty() && !self.unmasked_video {
            Err("it has masks, which are not in its video")
        } else {
            Ok(())
        }
    }

    /// How much video before an alarm its clips have at most.
    pub fn before(&self) -> Duration {
        let clips = self.alarms.iter().filter_map(|alarm| alarm.clip);
        clips.map(|clip| clip.before.0).max().unwrap_or_default()
    }

    /// Whether what is asked now can be asked of a pipeline that plays as this one wanted it.
    pub fn plays_on(&self, now: &Self) -> bool {
        let like_before = Self {
            name: self.name.clone(),
            masks: self.masks.clone(),
            alarms: self.alarms.clone(),
            prompt: self.prompt.clone(),
            motion_threshold: self.motion_threshold,
            heartbeat: self.heartbeat,
            max_tokens: now.max_tokens.and(self.max_tokens),
            ..now.clone()
        };
        // A limit that is taken away is the element's own again, which only a new one has. Whether there is
        // video, and how much of it is remembered, is settled when a camera is opened.
        *self == like_before && self.video() == now.video() && self.before() == now.before()
    }
}

/// The question whose answers are captions; no alarm may be called so.
pub const CAPTION: &str = "caption";

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence with the file, the line and what to write instead.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!(
                "{}: {error}; name another file with --config",
                path.display()
            )
        })?;
        Self::parse(&text, &Process).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A sentence with the line and what to write instead.
    pub fn parse(text: &str, around: &dyn Surroundings) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let message = nearest::reword(error.message());
            match error.span() {
                Some(span) => format!("line {}: {message}", line_of(text, span.start)),
                None => message,
            }
        })?;
        let mut advice = Vec::new();
        if file.model.path.is_none() && file.model.backend.is_none() {
            advice.push("no model is named: the built-in demo model runs, which knows shapes and test pictures only; set `path` in [model]".into());
        }
        let mut ids = HashSet::new();
        let mut cameras = Vec::new();
        for camera in file.camera {
            let id = camera.id.clone();
            if !ids.insert(id.clone()) {
                return Err(format!("two cameras are called `{id}`"));
            }
            let camera = resolve(camera, &file.defaults, around, &mut advice)
                .map_err(|error| format!("camera `{id}`: {error}"))?;
            cameras.push(camera);
        }
        if cameras.is_empty() {
            advice.push("no camera is named: add a [[camera]] with id and url".into());
        }
        let out = out::resolve(file.mqtt, file.webhook, around)?;
        notified_are_known(&cameras, &out)?;
        let door = door::resolve(
            door::Asked {
                path: file.server.path.as_deref(),
                tls: file.server.tls.as_ref(),
                trusted: &file.server.trusted_proxies,
                auth: &file.server.auth,
            },
            around,
        )?;
        Ok(Self {
            out,
            door,
            listen: file.server.enabled.then_some(file.server.listen),
            storage: Storage {
                path: file.storage.path,
                max_size: file.storage.max_size.0,
                keep_free: file.storage.keep_free.0,
                keep_captions: file.storage.keep.captions.0,
                keep_thumbnails: file.storage.keep.thumbnails.0,
                keep_clips: file.storage.keep.clips.0,
            },
            model: file.model,
            cameras,
            synonyms: file.search.synonyms,
            advice,
        })
    }
}

/// A camera with all that it needs.
fn resolve(
    camera: file::Camera,
    defaults: &Asked,
    around: &dyn Surroundings,
    advice: &mut Vec<String>,
) -> Result<Camera, String> {
    id_is_plain(&camera.id)?;
    let split = url::split(&camera.url)?;
    split
        .place
        .secrets()
        .iter()
        .for_each(|text| secret::hide(text));
    let written = split.password.map(Secret::new);
    if written.is_some() {
        advice.push(format!(
            "camera `{}`: the password stands in its url, where everybody who reads the file sees it; put it into a file of its own and name that in password-file",
            camera.id
        ));
    }
    let password = password(&camera, around)?.or(written);
    let own = camera.asked();
    let window = own.window.or(defaults.window).unwrap_or(4);
    let stride = own.stride.or(defaults.stride).unwrap_or(window);
    let motion = own
        .motion_threshold
        .or(defaults.motion_threshold)
        .unwrap_or(0.0);
    within("window", f64::from(window), 1.0, 768.0)?;
    within("stride", f64::from(stride), 1.0, 86_400.0)?;
    within("motion-threshold", motion, 0.0, 1.0)?;
    camera.masks.iter().try_for_each(mask_fits)?;
    alarms_fit(&camera.alarm)?;
    Ok(Camera {
        name: camera.name.unwrap_or_else(|| camera.id.clone()),
        id: camera.id,
        place: split.place,
        user: camera.user.or(split.user),
        password,
        enabled: camera.enabled,
        decode: camera.decode,
        offline_after: camera
            .offline_after
            .map_or(Duration::from_secs(30), |span| span.0),
        masks: camera.masks,
        unmasked_video: camera.unmasked_video,
        alarms: camera.alarm,
        prompt: own
            .prompt
            .or_else(|| defaults.prompt.clone())
            .unwrap_or_else(|| "Describe the video.".into()),
        window,
        stride,
        motion_threshold: motion,
        heartbeat: own
            .heartbeat
            .or(defaults.heartbeat)
            .map_or(Duration::ZERO, |span| span.0),
        max_tokens: own.max_tokens.or(defaults.max_tokens),
    })
}

/// The password of a camera from where the file says that it is.
fn password(camera: &file::Camera, around: &dyn Surroundings) -> Result<Option<Secret>, String> {
    let ways = Ways {
        key: "password",
        file: camera.password_file.as_deref(),
        env: camera.password_env.as_deref(),
        credential: camera.password_credential.as_deref(),
    };
    ways.read(around)
}

/// What Home Assistant takes a binary sensor for.
const CLASSES: &[&str] = &[
    "battery",
    "battery_charging",
    "carbon_monoxide",
    "cold",
    "connectivity",
    "door",
    "garage_door",
    "gas",
    "heat",
    "light",
    "lock",
    "moisture",
    "motion",
    "moving",
    "occupancy",
    "opening",
    "plug",
    "power",
    "presence",
    "problem",
    "running",
    "safety",
    "smoke",
    "sound",
    "tamper",
    "update",
    "vibration",
    "window",
];

/// Whoever an alarm is to be told to has to be there, and its class has to be one.
fn notified_are_known(cameras: &[Camera], out: &out::Out) -> Result<(), String> {
    for camera in cameras {
        for alarm in &camera.alarms {
            if let Some(class) = alarm
                .device_class
                .as_deref()
                .filter(|class| !CLASSES.contains(class))
            {
                let meant = nearest::nearest(class, CLASSES);
                let meant = meant.map_or_else(
                    || format!("known: {}", CLASSES.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                return Err(format!(
                    "camera `{}`: alarm `{}` has the device-class `{class}`, which Home Assistant does not know; {meant}",
                    camera.id, alarm.id
                ));
            }
            for target in alarm.notify.iter().flatten() {
                if !out::targets(out).any(|known| known == *target) {
                    let known: Vec<String> =
                        out::targets(out).map(|name| format!("`{name}`")).collect();
                    let known = if known.is_empty() {
                        "there is no [mqtt] and no [[webhook]]".to_owned()
                    } else {
                        format!("known: {}", known.join(", "))
                    };
                    return Err(format!(
                        "camera `{}`: alarm `{}` is to be told to `{target}`; {known}",
                        camera.id, alarm.id
                    ));
                }
            }
        }
    }
    Ok(())
}

/// An id names a folder, a column and a topic: small letters, digits, `-` and `_`.
fn id_is_plain(id: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let begins = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && id.len() <= 32 && id.bytes().all(plain) {
        Ok(())
    } else {
        Err("an id has 1 to 32 small letters, digits, - and _, and begins with a letter or digit; what people read goes into name".into())
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{key} is {value} and has to be from {least} to {most}"
        ))
    }
}

fn mask_fits(mask: &Mask) -> Result<(), String> {
    let inside = mask.x >= 0.0
        && mask.y >= 0.0
        && mask.width > 0.0
        && mask.height > 0.0
        && mask.x + mask.width <= 1.0 + 1e-9
        && mask.y + mask.height <= 1.0 + 1e-9;
    if inside {
        Ok(())
    } else {
        Err(format!(
            "the mask at {}, {} reaches out of the picture: x, y, width and height are fractions of it, 0 to 1",
            mask.x, mask.y
        ))
    }
}

fn alarms_fit(alarms: &[Alarm]) -> Result<(), String> {
    let mut ids = HashSet::from([CAPTION]);
    for alarm in alarms {
        let say = |error: String| format!("alarm `{}`: {error}", alarm.id);
        id_is_plain(&alarm.id).map_err(say)?;
        if !ids.insert(&alarm.id) {
            let what = if alarm.id == CAPTION {
                "is taken by captions"
            } else {
                "is there twice"
            };
            return Err(say(format!("this id {what}; choose another")));
        }
        within("on", alarm.on, 0.0, 1.0).map_err(say)?;
        within("off", alarm.off, 0.0, alarm.on).map_err(say)?;
        if alarm.question.trim().is_empty() {
            return Err(say("the question is empty".into()));
        }
        if let Some(clip) = &alarm.clip {
            clip_fits(clip).map_err(say)?;
        }
    }
    Ok(())
}

/// What comes before an alarm waits in memory, and a clip is no recording.
fn clip_fits(clip: &file::ClipAsked) -> Result<(), String> {
    let span = |key: &str, span: units::Span, most: f64| {
        within(
            &format!("{key} in clip, in seconds,"),
            span.0.as_secs_f64(),
            0.0,
            most,
        )
    };
    span("before", clip.before, 60.0)?;
    span("after", clip.after, 60.0)?;
    span("longest", clip.longest, 120.0)?;
    if clip.longest.0 <= clip.before.0 {
        return Err(
            "longest in clip has to be longer than before: the alarm itself is to be in it".into(),
        );
    }
    Ok(())
}

/// The number of the line that a byte is in, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.as_bytes()[..byte.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fake process: one variable and one file.
    struct Fake;

    impl Surroundings for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "FRONT" => Some("from-the-environment".into()),
                "CREDENTIALS_DIRECTORY" => Some("/run/credentials".into()),
                _ => None,
            }
        }

        fn read(&self, path: &Path) -> std::io::Result<String> {
            match path.to_str() {
                Some("/run/credentials/front") => Ok("from-systemd\n".into()),
                Some("/etc/front") => Ok("from-a-file\n".into()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, &Fake)
    }

    fn camera(keys: &str) -> Result<Camera, String> {
        let text =
            format!("[[camera]]\nid = \"front\"\nurl = \"rtsp://10.0.0.21/stream2\"\n{keys}");
        parse(&text).map(|config| config.cameras[0].clone())
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_known() {
        let error = camera("promt = \"x\"").unwrap_err();
        assert_eq!(error, "line 4: unknown key `promt`; did you mean `prompt`?");
        let error = parse("[storage]\nmax_size = \"1GB\"").unwrap_err();
        assert_eq!(
            error,
            "line 2: unknown key `max_size`; did you mean `max-size`?"
        );
        let error = parse("[storage.keep]\ncaption = \"1d\"").unwrap_err();
        assert_eq!(
            error,
            "line 2: unknown key `caption`; did you mean `captions`?"
        );
        let error = parse("[[camara]]\nid = \"a\"").unwrap_err();
        assert!(
            error.starts_with("line 1: unknown key `camara`; did you mean `camera`?"),
            "{error}"
        );
        assert!(
            parse("[tpu]\n")
                .unwrap_err()
                .contains("known here: server, storage")
        );
    }

    #[test]
    fn a_camera_s_own_keys_go_before_the_defaults() {
        let text = "[defaults]\nprompt = \"all\"\nwindow = 8\n[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n\
                    [[camera]]\nid = \"b\"\nurl = \"test:ball\"\nprompt = \"own\"\nwindow = 2\n";
        let config = parse(text).unwrap();
        let asked = |n: usize| (config.cameras[n].prompt.as_str(), config.cameras[n].stride);
        assert_eq!(asked(0), ("all", 8));
        assert_eq!(asked(1), ("own", 2));
    }

    #[test]
    fn passwords_come_from_a_file_the_environment_or_systemd() {
        for (key, value) in [
            ("password-file = \"/etc/front\"", "from-a-file"),
            ("password-env = \"FRONT\"", "from-the-environment"),
            ("password-credential = \"front\"", "from-systemd"),
        ] {
            assert_eq!(camera(key).unwrap().password.unwrap().expose(), value);
        }
        let error = camera("password-file = \"/nowhere\"").unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
        assert!(camera("password-env = \"FRONT\"\npassword-file = \"/etc/front\"").is_err());
    }

    #[test]
    fn a_password_in_an_address_is_taken_out_and_told_off() {
        let text = "[[camera]]\nid = \"a\"\nurl = \"rtsp://u:canary-in-url@h/s\"\n";
        let config = parse(text).unwrap();
        assert_eq!(config.cameras[0].place, Place::Rtsp("rtsp://h/s".into()));
        assert!(
            config
                .advice
                .iter()
                .any(|line| line.contains("password-file"))
        );
        assert!(!format!("{config:?}").contains("canary-in-url"));
    }

    #[test]
    fn what_cannot_work_is_refused_in_words() {
        for (keys, word) in [
            ("window = 0", "window"),
            (
                "masks = [{ x = 0.9, y = 0, width = 0.2, height = 0.1 }]",
                "mask",
            ),
            (
                "[[camera.alarm]]\nid = \"caption\"\nquestion = \"?\"",
                "taken",
            ),
            (
                "[[camera.alarm]]\nid = \"a\"\nquestion = \"?\"\non = 0.3\noff = 0.5",
                "off",
            ),
            ("offline-after = \"30\"", "duration"),
            ("decode = \"keyframe\"", "keyframes"),
            (
                "[[camera.alarm]]\nid = \"a\"\nquestion = \"?\"\nclip = { before = \"2m\" }",
                "before",
            ),
            (
                "[[camera.alarm]]\nid = \"a\"\nquestion = \"?\"\nclip = { longest = \"10s\" }",
                "longer",
            ),
            (
                "[[camera.alarm]]\nid = \"a\"\nquestion = \"?\"\nclip = { pre = \"10s\" }",
                "before",
            ),
        ] {
            let error = camera(keys).unwrap_err();
            assert!(error.contains(word), "{keys}: {error}");
        }
        assert!(parse("[[camera]]\nid = \"../x\"\nurl = \"test:ball\"").is_err());
        let twice = "[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n".repeat(2);
        assert!(parse(&twice).unwrap_err().contains("two cameras"));
    }

    #[test]
    fn masks_keep_video_from_people_unless_it_is_asked_for() {
        let masks = "masks = [{ x = 0, y = 0, width = 0.2, height = 0.1 }]";
        assert!(camera("").unwrap().video().is_ok());
        assert!(camera(masks).unwrap().video().is_err());
        let both = format!("{masks}\nunmasked-video = true");
        assert!(camera(&both).unwrap().video().is_ok());
    }

    #[test]
    fn an_error_never_repeats_a_password() {
        let error = camera("password = \"canary-typed\"").unwrap_err();
        assert!(!error.contains("canary-typed"), "{error}");
    }
}
