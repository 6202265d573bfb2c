// SPDX-License-Identifier: MPL-2.0

//! What is sent: texts and pictures.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// Pictures as a data URL, encoded once however often they are asked about.
#[derive(Clone, PartialEq, Eq)]
pub struct Media {
    kind: MediaKind,
    url: Arc<str>,
}

/// What a server is to take pictures for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A still image.
    Image,
    /// Frames of a video, which belong together.
    Video,
}

impl Media {
    /// One JPEG, as an image.
    pub fn jpeg(jpeg: &[u8]) -> Self {
        Self::new(MediaKind::Image, "image/jpeg", &[jpeg])
    }

    /// JPEGs of one size as the frames of a video, in order of time. Servers want at least two.
    ///
    /// vLLM's form: `data:video/jpeg;base64,` and the frames with commas between them.
    pub fn jpeg_sequence<J: AsRef<[u8]>>(jpegs: &[J]) -> Self {
        let jpegs: Vec<&[u8]> = jpegs.iter().map(AsRef::as_ref).collect();
        Self::new(MediaKind::Video, "video/jpeg", &jpegs)
    }

    /// An MP4 file. Servers choose frames of it by themselves.
    pub fn mp4(mp4: &[u8]) -> Self {
        Self::new(MediaKind::Video, "video/mp4", &[mp4])
    }

    fn new(kind: MediaKind, mime: &str, files: &[&[u8]]) -> Self {
        let length: usize = files
            .iter()
            .map(|file| file.len().div_ceil(3) * 4 + 1)
            .sum();
        let mut url = String::with_capacity(length + mime.len() + 16);
        url.push_str("data:");
        url.push_str(mime);
        url.push_str(";base64,");
        for (index, file) in files.iter().enumerate() {
            if index > 0 {
                url.push(',');
            }
            STANDARD.encode_string(file, &mut url);
        }
        Self {
            kind,
            url: url.into(),
        }
    }

    /// What a server is to take it for.
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Bytes that it takes in a request.
    pub fn encoded_len(&self) -> usize {
        self.url.len()
    }
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.url.split(',').next().unwrap_or_default();
        write!(f, "Media({head}, {} bytes)", self.url.len())
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// How to answer.
    System,
    /// Questions, and what they are about.
    User,
    /// Earlier answers.
    Assistant,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// Pictures.
    Media(Media),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// How to answer.
    pub fn system(text: impl Into<String>) -> Self {
        Self::text(Role::System, text)
    }

    /// A question without pictures, such as one of an earlier window.
    pub fn user(text: impl Into<String>) -> Self {
        Self::text(Role::User, text)
    }

    /// An earlier answer.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::text(Role::Assistant, text)
    }

    /// A question about pictures. They stand before it, so that a server's prefix cache holds them
    /// for the next question about the same.
    pub fn about(media: &[Media], question: impl Into<String>) -> Self {
        let mut parts: Vec<Part> = media.iter().cloned().map(Part::Media).collect();
        parts.push(Part::Text(question.into()));
        Self {
            role: Role::User,
            parts,
        }
    }

    fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            parts: vec![Part::Text(text.into())],
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("role", self.role.name())?;
        match self.parts.as_slice() {
            // Servers without pictures know no other form.
            [Part::Text(text)] => map.serialize_entry("content", text)?,
            parts => map.serialize_entry("content", &Parts(parts))?,
        }
        map.end()
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

struct Parts<'a>(&'a [Part]);

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for part in self.0 {
            list.serialize_element(part)?;
        }
        list.end()
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self {
            Self::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
            }
            Self::Media(media) => {
                let name = match media.kind {
                    MediaKind::Image => "image_url",
                    MediaKind::Video => "video_url",
                };
                map.serialize_entry("type", name)?;
                map.serialize_entry(name, &Url { url: &media.url })?;
            }
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Url<'a> {
    url: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn frames_of_a_video_are_one_url_with_commas() {
        let media = Media::jpeg_sequence(&[b"one".as_slice(), b"two2"]);
        let message = Message::about(&[media], "What moves?");
        assert_eq!(
            to_value(&message).unwrap(),
            json!({"role": "user", "content": [
                {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,b25l,dHdvMg=="}},
                {"type": "text", "text": "What moves?"},
            ]})
        );
    }

    #[test]
    fn images_are_urls_of_their_own() {
        let images = [Media::jpeg(b"one"), Media::jpeg(b"two2")];
        let content = &to_value(Message::about(&images, "?")).unwrap()["content"];
        assert_eq!(
            content[1]["image_url"]["url"],
            "data:image/jpeg;base64,dHdvMg=="
        );
        assert_eq!(content[2]["type"], "text");
    }

    #[test]
    fn a_text_alone_is_a_plain_text() {
        assert_eq!(
            to_value(Message::system("Be short.")).unwrap(),
            json!({"role": "system", "content": "Be short."})
        );
    }

    #[test]
    fn debug_does_not_show_pictures() {
        let shown = format!("{:?}", Media::mp4(&[7; 3000]));
        assert_eq!(shown, "Media(data:video/mp4;base64, 4022 bytes)");
    }
}
