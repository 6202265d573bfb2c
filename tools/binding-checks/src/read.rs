// SPDX-License-Identifier: MPL-2.0

//! What the text of bindings, headers and sources tells.

use std::collections::{BTreeMap, BTreeSet};

/// What follows this line of our headers are prototypes; before it are types.
const PROTOTYPES: &str = "#endif /* VLMCAPTION_SDK_TYPES */";

/// A layout as the bindings state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout<'a> {
    Size(&'a str),
    Alignment(&'a str),
    Offset { of: &'a str, field: &'a str },
}

impl<'a> Layout<'a> {
    /// The structure.
    pub(crate) fn structure(self) -> &'a str {
        match self {
            Self::Size(name) | Self::Alignment(name) | Self::Offset { of: name, .. } => name,
        }
    }
}

/// Every layout of bindings, in bytes: `["Size of X"][size_of::<X>() - 8usize];`.
pub(crate) fn layouts(bindings: &str) -> BTreeMap<Layout<'_>, &str> {
    let statements = bindings.split("[\"").skip(1);
    let layouts = statements.filter_map(|statement| {
        let (what, rest) = statement.split_once("\"]")?;
        let (number, _) = rest.split_once("usize]")?;
        let (kind, name) = what.rsplit_once(' ')?;
        let (of, field) = name.split_once("::").unwrap_or((name, ""));
        let layout = match kind {
            "Size of" => Layout::Size(of),
            "Alignment of" => Layout::Alignment(of),
            "Offset of field:" => Layout::Offset { of, field },
            other => panic!("unknown kind of layout: {other}"),
        };
        Some((layout, number.rsplit(' ').next()?))
    });
    layouts.collect()
}

/// Constants whose name begins so: name, type and value.
pub(crate) fn constants<'a>(bindings: &'a str, prefix: &str) -> Vec<[&'a str; 3]> {
    let declared = bindings.split("pub const ").skip(1);
    let constants = declared.filter_map(|rest| {
        // `NAME: TYPE = TYPE(number);` or `NAME: u32 = number;`, maybe over several lines.
        let (name, rest) = rest.split_once(':')?;
        let (kind, rest) = rest.split_once('=')?;
        let (value, _) = rest.split_once(';')?;
        let inside = value
            .split_once('(')
            .map(|(_, inside)| inside.trim_end_matches(')'));
        let value = inside.unwrap_or(value).trim();
        name.starts_with(prefix)
            .then_some([name, kind.trim(), value])
    });
    constants.collect()
}

/// Functions that bindings look up by name.
pub fn bound_functions(bindings: &str) -> BTreeSet<&str> {
    let names = bindings.split("get(b\"").skip(1);
    names.filter_map(|rest| rest.split('\\').next()).collect()
}

/// Functions that one of our headers declares, by how their names begin.
pub fn declared_functions<'a>(header: &'a str, prefixes: &[&str]) -> BTreeSet<&'a str> {
    let (_, prototypes) = header.split_once(PROTOTYPES).expect("prototypes");
    let before = prototypes
        .match_indices('(')
        .map(|(at, _)| &prototypes[..at]);
    before
        .filter_map(|text| text.rsplit([' ', '*']).next())
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// Functions that a source calls as methods of the bindings, whose value is named so
/// (`self.symbols`).
pub fn called_functions(source: &str, symbols: &str) -> Vec<String> {
    let source: String = source.split_whitespace().collect();
    let receiver = format!("{symbols}.");
    let after = source.split(&receiver).skip(1);
    let calls = after.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        rest[end..].starts_with('(').then(|| rest[..end].to_owned())
    });
    calls.collect()
}

/// The types of all fields of structures, and those of them that not every byte is a value of.
///
/// What a library leaves in memory is any bytes: a `bool`, a `char`, an `enum` or a reference of Rust
/// may not hold them.
pub fn fields_of_few_values(bindings: &str) -> (usize, Vec<&str>) {
    let lines = bindings.lines();
    let fields = lines.filter(|line| {
        line.starts_with("    pub ") && !line.starts_with("    pub const ") && !line.contains('(')
    });
    let types = fields.filter_map(|line| Some(line.split_once(": ")?.1.trim_end_matches(',')));
    let types: Vec<&str> = types.collect();
    let few = |of: &&str| {
        let mut words = of.split(|c: char| !c.is_alphanumeric() && c != '_');
        of.contains('&') || words.any(|word| ["bool", "char", "NonNull"].contains(&word))
    };
    let mut bad: Vec<&str> = types.iter().copied().filter(few).collect();
    bad.extend(bindings.contains("pub enum ").then_some("an enum"));
    (types.len(), bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDINGS: &str = r#"
pub const X_MAX: u32 = 8;
impl x_kind_t {
    pub const X_LONG_NAME: x_kind_t =
        x_kind_t(3);
}
pub struct x_pair_s {
    pub a: *mut ::std::os::raw::c_int,
    pub b: u32,
}
const _: () = {
    ["Size of x_pair_s"][::std::mem::size_of::<x_pair_s>() - 16usize];
    ["Alignment of x_pair_s"][::std::mem::align_of::<x_pair_s>() - 8usize];
    ["Offset of field: x_pair_s::b"][::std::mem::offset_of!(x_pair_s, b) - 8usize];
};
let x_open = library.get(b"x_open\0").map(|sym| *sym);
"#;

    #[test]
    fn layouts_are_read_with_their_numbers() {
        let layouts = layouts(BINDINGS);
        let offset = Layout::Offset {
            of: "x_pair_s",
            field: "b",
        };
        assert_eq!(layouts.len(), 3);
        assert_eq!(layouts[&Layout::Size("x_pair_s")], "16");
        assert_eq!(layouts[&offset], "8");
    }

    #[test]
    fn constants_are_read_over_several_lines() {
        let want = [["X_MAX", "u32", "8"], ["X_LONG_NAME", "x_kind_t", "3"]];
        assert_eq!(constants(BINDINGS, "X_"), want);
        assert!(constants(BINDINGS, "Y_").is_empty());
    }

    #[test]
    fn functions_are_read_from_headers_bindings_and_calls() {
        let header = format!("int x_type(;\n{PROTOTYPES}\nvoid *x_open(int);\nint y(void);");
        assert_eq!(declared_functions(&header, &["x_"]), ["x_open"].into());
        assert_eq!(bound_functions(BINDINGS), ["x_open"].into());
        let source = "self.symbols\n    .x_open(1); self.symbols.x_close.as_ref()";
        assert_eq!(called_functions(source, "self.symbols"), ["x_open"]);
    }

    #[test]
    fn a_field_that_not_every_byte_is_a_value_of_is_found() {
        assert_eq!(fields_of_few_values(BINDINGS), (2, vec![]));
        let with_bool = BINDINGS.replace("pub b: u32", "pub b: bool");
        assert_eq!(fields_of_few_values(&with_bool), (2, vec!["bool"]));
    }
}
