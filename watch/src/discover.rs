// SPDX-License-Identifier: MPL-2.0

//! WS-Discovery, as ONVIF has it: one question to all in the network, and whoever answers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::log;

/// Where cameras listen.
pub const GROUP: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)),
    3702,
);
/// Answers that are longer are cut; a camera's is about 2 kB.
const LARGEST: usize = 16 << 10;
/// Whoever floods us is not listened to for ever.
const MOST: usize = 1_000;

/// A camera that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub from: SocketAddr,
    /// Its device service.
    pub addresses: Vec<String>,
    pub name: String,
    pub hardware: String,
}

/// Asks, and listens for so long.
///
/// # Errors
/// That the network cannot be asked.
pub fn discover(to: SocketAddr, time: Duration) -> Result<Vec<Found>, String> {
    let fault = |error: std::io::Error| format!("the network cannot be asked: {error}");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(fault)?;
    let id = id()?;
    socket.send_to(probe(&id).as_bytes(), to).map_err(fault)?;
    let begin = Instant::now();
    let mut found = BTreeMap::new();
    let mut buffer = vec![0; LARGEST];
    let mut answers = 0;
    while let Some(left) = time
        .checked_sub(begin.elapsed())
        .filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left)).map_err(fault)?;
        let Ok((n, from)) = socket.recv_from(&mut buffer) else {
            break;
        };
        answers += 1;
        if answers > MOST {
            break;
        }
        let text = String::from_utf8_lossy(&buffer[..n]);
        match answer(&text, &id, from) {
            Some(camera) => {
                found.insert(from, camera);
            }
            None => log::debug(format!("{from} answers something else")),
        }
    }
    Ok(found.into_values().collect())
}

/// A number that nobody else has, as a URN.
fn id() -> Result<String, String> {
    let mut b = [0_u8; 16];
    getrandom::fill(&mut b).map_err(|error| format!("no random numbers: {error}"))?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

/// The question: who is a transmitter of video?
fn probe(id: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:w=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\">\
         <e:Header><w:MessageID>{id}</w:MessageID>\
         <w:To e:mustUnderstand=\"true\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
         <w:Action e:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action>\
         </e:Header><e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"
    )
}

/// What an answer to this question says.
fn answer(text: &str, id: &str, from: SocketAddr) -> Option<Found> {
    if !element(text, "RelatesTo")?.contains(id) || element(text, "ProbeMatches").is_none() {
        return None;
    }
    let words = |name: &str| -> Vec<String> {
        let words = element(text, name).unwrap_or_default();
        words.split_whitespace().map(str::to_owned).collect()
    };
    let scope = |kind: &str| {
        let scopes = words("Scopes");
        let found = scopes
            .iter()
            .find_map(|scope| scope.split_once(&format!("onvif.org/{kind}/")));
        found.map(|(_, value)| decoded(value)).unwrap_or_default()
    };
    let addresses = words("XAddrs")
        .into_iter()
        .filter(|address| address.starts_with("http"));
    Some(Found {
        from,
        addresses: addresses.take(8).collect(),
        name: scope("name"),
        hardware: scope("hardware"),
    })
}

/// The text of the first element of this name, whatever its prefix. Answers are small and flat; what is
/// read of them is shown and nothing else.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let open = rest.find('<')?;
        rest = &rest[open + 1..];
        let end = rest.find('>')?;
        let tag = rest[..end].split_whitespace().next().unwrap_or_default();
        let local = tag.rsplit(':').next().unwrap_or_default();
        rest = &rest[end + 1..];
        if local == name && !tag.starts_with('/') {
            let close = format!("</{tag}>");
            return rest.find(&close).map(|at| rest[..at].trim());
        }
    }
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = (byte == b'%').then(|| bytes.clone().take(2).collect::<Vec<u8>>());
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok());
        match hex {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A fake camera: it answers each question as a real one would, after some that no camera sends.
    fn fake_camera() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            let question = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert!(question.contains("dn:NetworkVideoTransmitter"));
            let id = element(&question, "MessageID").unwrap();
            let of = |id: &str| {
                format!(
                    "<?xml version=\"1.0\"?><SOAP-ENV:Envelope xmlns:SOAP-ENV=\"x\"><SOAP-ENV:Header>\
                     <wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>\
                     <d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/type/video_encoder \
                     onvif://www.onvif.org/name/Front%20door onvif://www.onvif.org/hardware/Fake-1</d:Scopes>\
                     <d:XAddrs>http://127.0.0.1:8080/onvif/device_service file:///etc/passwd</d:XAddrs>\
                     </d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"
                )
            };
            socket.send_to(b"\xff\xfe no answer", from).unwrap();
            socket
                .send_to(of("urn:uuid:somebody-else-s").as_bytes(), from)
                .unwrap();
            socket.send_to(of(id).as_bytes(), from).unwrap();
        });
        address
    }

    #[test]
    fn a_camera_that_answers_is_found_and_what_is_no_answer_is_not() {
        let camera = fake_camera();
        let found = discover(camera, Duration::from_millis(700)).unwrap();
        let wanted = Found {
            from: camera,
            addresses: vec!["http://127.0.0.1:8080/onvif/device_service".into()],
            name: "Front door".into(),
            hardware: "Fake-1".into(),
        };
        assert_eq!(found, [wanted]);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_stumble(text in ".{0,200}", tags in "(<[a-z:/]{0,9}>?){0,20}%?[0-9é%]{0,4}") {
            let from = "127.0.0.1:1".parse().unwrap();
            for text in [&text, &tags] {
                let _ = answer(text, "id", from);
                let _ = element(text, "a");
                let _ = decoded(text);
            }
        }
    }
}
