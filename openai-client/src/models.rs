// SPDX-License-Identifier: MPL-2.0

//! The models that a server lists.

use serde_json::Value;

use crate::cancel::Cancel;
use crate::client::{Call, Client};
use crate::error::{Error, Problem};

/// A model that a server lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// Its name, by which it is asked.
    pub id: String,
    /// Who serves it, as the server says: `vllm`, `llamacpp`, an organisation.
    pub owner: String,
    /// Tokens that a prompt and its answer may have together, where the server tells.
    pub context: Option<usize>,
}

impl Client {
    /// The models that the server lists.
    ///
    /// # Errors
    /// Those of the call; [`Problem::Garbage`] for what is no list.
    pub fn models(&self, cancel: &Cancel) -> Result<Vec<Model>, Error> {
        self.list(cancel).map_err(|problem| self.error(problem))
    }

    pub(crate) fn list(&self, cancel: &Cancel) -> Result<Vec<Model>, Problem> {
        let call = Call {
            endpoint: self.config().server.endpoint("/models"),
            body: None,
            model: "",
        };
        let value = self.json(&call, cancel)?;
        models(&value).ok_or_else(|| Problem::Garbage {
            reason: format!("{} is no list of models", call.endpoint.uri.path()),
        })
    }
}

/// `{"data": [{"id"}]}`, or under `models`, or the list alone.
fn models(value: &Value) -> Option<Vec<Model>> {
    let lists = ["data", "models"].iter().map(|key| value.get(*key));
    let list = lists.flatten().chain([value]).find_map(Value::as_array)?;
    let model = |value: &Value| {
        let text = |keys: [&str; 2]| {
            let found = keys.iter().find_map(|key| value.get(*key));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).map(|n| n as usize);
        let meta = value.get("meta").and_then(|meta| meta.get("n_ctx"));
        Some(Model {
            id: text(["id", "name"])?,
            owner: text(["owned_by", "owner"]).unwrap_or_default(),
            context: number(value.get("max_model_len")).or_else(|| number(meta)),
        })
    };
    Some(list.iter().filter_map(model).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_under_each_of_its_names() {
        let vllm = json!({"object": "list", "data": [
            {"id": "demo", "owned_by": "vllm", "max_model_len": 4096}, {"id": "b"}]});
        let list = models(&vllm).unwrap();
        let demo = Model {
            id: "demo".into(),
            owner: "vllm".into(),
            context: Some(4096),
        };
        assert_eq!(list[0], demo);
        assert_eq!(list[1].id, "b");
        assert_eq!(
            models(&json!({"models": [{"name": "a"}]})).unwrap()[0].id,
            "a"
        );
        assert_eq!(models(&json!([{"id": "a"}])).unwrap().len(), 1);
        assert_eq!(models(&json!({"data": []})), Some(vec![]));
        assert_eq!(models(&json!({"status": "ok"})), None);
    }
}
