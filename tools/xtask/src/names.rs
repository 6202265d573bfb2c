// SPDX-License-Identifier: MPL-2.0

//! The names that stand in a Rust file: what it defines, what it takes by `use`, its paths.
//!
//! This knows as much of Rust as the rule about circles needs: modules, `use` and paths. Macros are
//! not expanded; paths in their bodies are read like others.

use std::collections::BTreeSet;

/// The names in a file.
#[derive(Default)]
pub struct Names {
    /// What stands at the top of the file, and the modules it declares.
    pub defined: BTreeSet<String>,
    /// Modules with a file of their own that are compiled for tests alone, by their path from here.
    pub test_modules: Vec<Vec<String>>,
    /// The leaves of all `use` items.
    pub uses: Vec<Named>,
    /// Paths of at least two parts in other code.
    pub paths: Vec<Named>,
}

/// A path where it stands.
pub struct Named {
    /// The inline modules (`mod x { … }`) around it.
    pub inside: Vec<String>,
    pub path: Vec<String>,
    /// The name that a `use` gives it, `*` for all names; empty for a path in code.
    pub alias: String,
    /// Whether it is a `use` with any visibility of its own.
    pub public: bool,
    pub line: usize,
}

/// Reads code that has no comments and no strings.
pub fn scan(code: &str) -> Names {
    let tokens = tokens(code);
    let mut scan = Scan {
        tokens: &tokens,
        names: Names::default(),
        inside: Vec::new(),
        depth: 0,
    };
    let mut at = 0;
    while at < tokens.len() {
        at = scan.step(at);
    }
    scan.names
}

/// A word, `::`, or a character.
struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    for (index, mut rest) in code.lines().enumerate() {
        while let Some(c) = rest.chars().next() {
            let length = if is_word(c) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                c.len_utf8()
            };
            let (text, left) = rest.split_at(length);
            rest = left;
            if !c.is_whitespace() {
                let line = index + 1;
                tokens.push(Token { text, line });
            }
        }
    }
    tokens
}

/// Words after which a name is defined.
const DEFINING: [&str; 9] = [
    "const", "enum", "fn", "mod", "static", "struct", "trait", "type", "union",
];

struct Scan<'a> {
    tokens: &'a [Token<'a>],
    names: Names,
    /// The inline modules that are open, and how many braces are open inside each.
    inside: Vec<(String, usize)>,
    depth: usize,
}

impl Scan<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn is_word(&self, at: usize) -> bool {
        let first = self.text(at).chars().next();
        first.is_some_and(|c| c.is_alphabetic() || c == '_')
    }

    fn modules(&self) -> Vec<String> {
        self.inside.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Reads what begins at a token; where the next begins.
    fn step(&mut self, at: usize) -> usize {
        match self.text(at) {
            "#" if self.is_for_tests(at) => return self.skip_test_item(at),
            // The path of a visibility is no import.
            "pub" if self.text(at + 1) == "(" && self.text(at + 2) == "in" => {
                return self.close(at + 1);
            }
            "mod" if self.is_word(at + 1) && self.text(at + 2) == "{" => {
                let name = self.text(at + 1).to_owned();
                self.define(at);
                self.depth += 1;
                self.inside.push((name, self.depth));
                return at + 3;
            }
            "{" => self.depth += 1,
            "}" => {
                if self.inside.last().is_some_and(|(_, d)| *d == self.depth) {
                    self.inside.pop();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            "use" if self.text(at + 1) != "<" => return self.read_use(at),
            word if DEFINING.contains(&word) => self.define(at),
            _ if self.is_word(at) => return self.read_path(at),
            _ => {}
        }
        at + 1
    }

    /// Notes what the defining word at `at` defines, if that is at the top of the file.
    fn define(&mut self, at: usize) {
        let name = self.text(at + 1);
        if self.depth == 0 && self.is_word(at + 1) && !DEFINING.contains(&name) {
            self.names.defined.insert(name.to_owned());
        }
    }

    fn is_for_tests(&self, at: usize) -> bool {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        (0..attribute.len()).all(|i| self.text(at + i) == attribute[i])
    }

    /// Leaves out what stands under the `#[cfg(test)]` at `at`.
    fn skip_test_item(&mut self, at: usize) -> usize {
        let mut at = at + 7;
        while self.text(at) == "#" {
            at = self.close(at + 1);
        }
        let start = at;
        let is_item = loop {
            match self.text(at) {
                "pub" if self.text(at + 1) == "(" => at = self.close(at + 1),
                "pub" | "async" | "unsafe" | "extern" => at += 1,
                "impl" | "use" | "macro_rules" => break true,
                word => break DEFINING.contains(&word),
            }
        };
        if self.text(at) == "mod" && self.text(at + 2) == ";" {
            let mut module = self.modules();
            module.push(self.text(at + 1).to_owned());
            self.names.test_modules.push(module);
        }
        self.end_of_item(start, is_item)
    }

    /// Where the item, or the field or statement, ends that begins at `at`.
    fn end_of_item(&self, mut at: usize, is_item: bool) -> usize {
        let is_use = self.text(at) == "use";
        while at < self.tokens.len() {
            match self.text(at) {
                ";" => return at + 1,
                "," if !is_item => return at + 1,
                ")" | "]" | "}" => return at,
                "{" if !is_use => return self.close(at),
                "(" | "[" | "{" => at = self.close(at),
                _ => at += 1,
            }
        }
        at
    }

    /// Behind the bracket that closes the one at `at`.
    fn close(&self, mut at: usize) -> usize {
        let mut depth = 0usize;
        while at < self.tokens.len() {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// Reads the `use` item at `at`.
    fn read_use(&mut self, at: usize) -> usize {
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        // Nothing but a visibility ends in a parenthesis right before `use`.
        let public = matches!(before, "pub" | ")");
        let mut leaves = Vec::new();
        let end = self.read_tree(at + 1, &[], &mut leaves);
        for (path, alias, line) in leaves {
            let inside = self.modules();
            self.names.uses.push(Named {
                inside,
                path,
                alias,
                public,
                line,
            });
        }
        end
    }

    /// Reads a tree of a `use` below `head`; where it ends.
    fn read_tree(
        &self,
        mut at: usize,
        head: &[String],
        leaves: &mut Vec<(Vec<String>, String, usize)>,
    ) -> usize {
        let mut path = head.to_vec();
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        if self.text(at) == "::" {
            // Of another crate.
            path.push(String::new());
        }
        let mut alias = None;
        loop {
            match self.text(at) {
                "::" | "$" => at += 1,
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | ";" | "") {
                        at = self.read_tree(at, &path, leaves);
                        at += usize::from(self.text(at) == ",");
                    }
                    return at + 1;
                }
                "as" => {
                    alias = Some(self.text(at + 1).to_owned());
                    at += 2;
                }
                "," | ";" | "}" | "" => break,
                part => {
                    path.push(part.to_owned());
                    at += 1;
                }
            }
        }
        let named = path.iter().rev().find(|part| *part != "self");
        let alias = alias.or_else(|| named.cloned()).unwrap_or_default();
        leaves.push((path, alias, line));
        at
    }

    /// Reads the word at `at`, and the path that begins with it.
    fn read_path(&mut self, at: usize) -> usize {
        let mut end = at + 1;
        while self.text(end) == "::" && self.is_word(end + 1) {
            end += 2;
        }
        let follows = at.checked_sub(1).map_or("", |before| self.text(before));
        if end > at + 1 && !matches!(follows, "::" | ".") {
            let path = (at..end).step_by(2).map(|at| self.text(at).to_owned());
            let path = path.collect();
            self.names.paths.push(Named {
                inside: self.modules(),
                path,
                alias: String::new(),
                public: false,
                line: self.tokens[at].line,
            });
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(code: &str) -> Vec<String> {
        let uses = scan(code).uses.into_iter();
        let text = |named: Named| {
            let public = if named.public { "pub " } else { "" };
            let inside: String = named.inside.iter().map(|m| format!("{m}: ")).collect();
            format!(
                "{inside}{public}{} as {}",
                named.path.join("::"),
                named.alias
            )
        };
        uses.map(text).collect()
    }

    fn paths(code: &str) -> Vec<String> {
        let paths = scan(code).paths.into_iter();
        paths.map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn a_tree_is_read_leaf_by_leaf() {
        let code = "use a::{self, b::{C, D as E}, f::*};\nuse g as _;";
        let leaves = [
            "a::self as a",
            "a::b::C as C",
            "a::b::D as E",
            "a::f::* as *",
            "g as _",
        ];
        assert_eq!(uses(code), leaves);
    }

    #[test]
    fn every_visibility_is_public() {
        let code = "pub use a;pub(crate) use b;pub(in crate::x) use c;use d;";
        assert_eq!(
            uses(code),
            ["pub a as a", "pub b as b", "pub c as c", "d as d"]
        );
    }

    #[test]
    fn the_path_of_a_visibility_is_no_path() {
        assert_eq!(paths("pub(in crate::a::b) struct C(d::D);"), ["d::D"]);
    }

    #[test]
    fn inline_modules_are_known_and_end() {
        let code = "mod x { fn f() { if a {} } use b; mod y { use c; } } use d;";
        assert_eq!(uses(code), ["x: b as b", "x: y: c as c", "d as d"]);
    }

    #[test]
    fn paths_are_read_whole_and_once() {
        let code = "let x = crate::a::f::<super::B>(y.c::<D>(), &'e f::G { h: ::i::j() });";
        assert_eq!(paths(code), ["crate::a::f", "super::B", "f::G"]);
    }

    #[test]
    fn what_stands_under_cfg_test_is_left_out_and_nothing_else() {
        let code = "struct S {\n #[cfg(test)]\n seen: a::A,\n b: b::B,\n}\n\
                    #[cfg(test)]\npub(crate) fn f(x: a::A) -> a::B { a::c() }\n\
                    #[cfg(test)]\nuse a::{b, c};\n\
                    #[cfg(test)]\nconst A: a::A = a::B { x: 1 };\n\
                    fn g() { b::g() }";
        assert_eq!(paths(code), ["b::B", "b::g"]);
        assert_eq!(uses(code), [""; 0]);
    }

    #[test]
    fn what_is_defined_is_what_stands_at_the_top() {
        let code = "pub struct A;\nimpl A { fn b() {} }\nmod c { struct D; }\npub const fn e() {}";
        let defined: Vec<String> = scan(code).defined.into_iter().collect();
        assert_eq!(defined, ["A", "c", "e"]);
    }
}
