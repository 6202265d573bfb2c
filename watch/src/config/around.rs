// SPDX-License-Identifier: MPL-2.0

//! What surrounds this process, and the ways in which a secret is looked for there.

use std::path::Path;

use crate::secret::Secret;

/// Where passwords are looked for besides files.
pub trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file.
    fn read(&self, path: &Path) -> std::io::Result<String>;
}

/// Those of this process.
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// The three ways to say where a secret is: `KEY-file`, `KEY-env` and `KEY-credential`.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    pub key: &'static str,
    pub file: Option<&'a Path>,
    pub env: Option<&'a str>,
    pub credential: Option<&'a str>,
}

impl Ways<'_> {
    /// The secret, if one of them is there.
    ///
    /// # Errors
    /// Two of them, or one that does not lead to a secret.
    pub fn read(self, around: &dyn Surroundings) -> Result<Option<Secret>, String> {
        let key = self.key;
        let n_ways = u8::from(self.file.is_some())
            + u8::from(self.env.is_some())
            + u8::from(self.credential.is_some());
        if n_ways > 1 {
            return Err(format!(
                "of {key}-file, {key}-env and {key}-credential only one may be there"
            ));
        }
        let from_file = |path: &Path| {
            let text = around
                .read(path)
                .map_err(|error| format!("the {key} in {}: {error}", path.display()))?;
            let text = text.trim_end_matches(['\r', '\n']).to_owned();
            if text.is_empty() {
                return Err(format!(
                    "{} is empty; it has to hold the {key}",
                    path.display()
                ));
            }
            Ok(Some(Secret::new(text)))
        };
        if let Some(path) = self.file {
            return from_file(path);
        }
        if let Some(name) = self.env {
            let value = around.variable(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| {
                format!("the variable {name}, which is to hold the {key}, is not set")
            })?;
            return Ok(Some(Secret::new(value)));
        }
        if let Some(name) = self.credential {
            let folder = around.variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                format!("there are no credentials of systemd; add `LoadCredential={name}:/a/file` to the unit, or use {key}-file")
            })?;
            if name.contains('/') || name.starts_with('.') {
                return Err(format!("{key}-credential is a name, not a path"));
            }
            return from_file(&Path::new(&folder).join(name));
        }
        Ok(None)
    }
}
