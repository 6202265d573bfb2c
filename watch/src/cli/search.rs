// SPDX-License-Identifier: MPL-2.0

//! `search`.

use crate::search::Query;
use crate::store::files::Layout;
use crate::store::finding::{Reach, Visit};
use crate::store::reader::{Reader, Scope};
use crate::time::Millis;

use super::common::{Common, print};

/// Find captions by words
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Words are found wherever they are in a caption, in any order and in any case.
  dog                 the word
  \"red coat\"          the words one after the other (quote the quotes for the shell)
  walk*               every word that begins so
  person -dog         captions with person and without dog
  camera:front        of this camera alone; again for another one
  alarm:lying         said while this alarmed
  after:2h            since two hours ago; also 2026-11-29, \"2026-11-29 14:00\", 14:00
  before:14:00        until then
Captions of a camera within a minute of each other are one line.")]
pub struct Search {
    #[command(flatten)]
    common: Common,
    /// What to look for
    #[arg(required = true, allow_hyphen_values = true)]
    query: Vec<String>,
    /// How many captions at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Search {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        let query = Query::parse(&self.query.join(" "), Millis::now())?;
        let query = query.widened(&config.synonyms);
        let mut reader = Reader::new(Layout::new(&config.storage.path));
        let found = reader
            .search(&Scope::All, &query, &Reach::of(usize::from(self.limit)))
            .map_err(|error| error.to_string())?
            .visits;
        if found.is_empty() && !self.json {
            return print("nothing was found");
        }
        found
            .iter()
            .try_for_each(|visit| print(&if self.json { json(visit) } else { line(visit) }))
    }
}

fn line(visit: &Visit) -> String {
    let more = match visit.count {
        1 => String::new(),
        n => format!(" ({n} captions until {})", visit.to.local()),
    };
    format!(
        "{}  {}  {}{more}",
        visit.from.local(),
        visit.camera,
        visit.caption.text
    )
}

fn json(visit: &Visit) -> String {
    serde_json::json!({
        "camera": visit.camera,
        "from": visit.from.to_string(),
        "to": visit.to.to_string(),
        "count": visit.count,
        "caption": visit.caption.text,
        "id": visit.caption.id.number().to_string(),
    })
    .to_string()
}
