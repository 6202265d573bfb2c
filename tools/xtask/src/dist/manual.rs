// SPDX-License-Identifier: MPL-2.0

//! Man pages: what documents of `docs` say, in roff.
//!
//! It reads the Markdown that these files are written in: headings, paragraphs, lists, tables, code, and in
//! a line code, links and bold.

use std::fmt::Write as _;

/// What is at the beginning of a page.
pub struct Head<'a> {
    pub name: &'a str,
    pub section: u8,
    /// Of which manual it is a page.
    pub manual: &'a str,
    pub version: &'a str,
    pub date: &'a str,
    /// Half a sentence, which follows the name.
    pub summary: &'a str,
    /// What a program says of its command line.
    pub usage: Option<&'a str>,
}

/// The man page of these documents, one after the other. Their first headings become sections.
pub fn page(head: &Head, documents: &[&str]) -> String {
    let mut out = format!(
        ".TH {} {} \"{}\" \"vlmcaption {}\" \"{}\"\n.SH NAME\n{} \\- {}\n",
        escaped(&head.name.to_uppercase()),
        head.section,
        head.date,
        head.version,
        head.manual,
        escaped(head.name),
        text(head.summary)
    );
    if let Some(usage) = head.usage {
        out.push_str(".SH SYNOPSIS\n");
        write_code(&mut out, usage);
    }
    for document in documents {
        let (mut rest, mut first) = (*document, true);
        while let Some((block, after)) = block(rest) {
            let title = block.starts_with("# ");
            if !(title && first) {
                write_block(&mut out, block);
            }
            if title && first {
                let name = block.trim_start_matches("# ").replace('`', "");
                let _ = writeln!(out, ".SH \"{}\"", text(&name).to_uppercase());
            }
            first = false;
            rest = after;
        }
    }
    out
}

/// The next block: lines up to an empty one, or from one fence of code to the next.
fn block(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches('\n');
    if text.is_empty() {
        return None;
    }
    if let Some(code) = text.strip_prefix("```") {
        let end = code.find("\n```").map_or(text.len(), |at| at + 7);
        return Some(text.split_at(end.min(text.len())));
    }
    let end = text
        .match_indices('\n')
        .map(|(at, _)| at)
        .find(|at| {
            let next = &text[at + 1..];
            next.starts_with('\n') || next.starts_with("```") || next.is_empty()
        })
        .unwrap_or(text.len());
    Some(text.split_at(end))
}

fn write_block(out: &mut String, block: &str) {
    if let Some(code) = block.strip_prefix("```") {
        let code = code.split_once('\n').map_or("", |(_, code)| code);
        let code = code.rsplit_once("\n```").map_or(code, |(code, _)| code);
        let _ = writeln!(out, ".PP\n.RS 4");
        write_code(out, code);
        let _ = writeln!(out, ".RE");
    } else if is_picture(block) {
        // A terminal shows none.
    } else if block.starts_with('#') {
        let level = block.bytes().take_while(|byte| *byte == b'#').count();
        let name = text(block[level..].trim()).replace('"', "'");
        let macro_name = if level <= 2 { ".SH" } else { ".SS" };
        let _ = writeln!(out, "{macro_name} \"{name}\"");
    } else if block.starts_with('|') {
        write_table(out, block);
    } else if starts_item(block) {
        write_list(out, block);
    } else {
        let _ = writeln!(out, ".PP\n{}", guarded(&text(&joined(block))));
    }
}

/// Lines as they are.
fn write_code(out: &mut String, code: &str) {
    out.push_str(".nf\n");
    for line in code.lines() {
        let _ = writeln!(out, "{}", guarded(&escaped(line)));
    }
    out.push_str(".fi\n");
}

/// `![what](where)`, and nothing else.
fn is_picture(block: &str) -> bool {
    block.starts_with("![") && block.ends_with(')') && block.matches("](").count() == 1
}

/// Rows become paragraphs with the first cell as their tag: tables of `tbl` do not wrap.
fn write_table(out: &mut String, block: &str) {
    let mut rows = block.lines().map(cells);
    let head = rows.next().unwrap_or_default();
    for row in rows {
        if row
            .iter()
            .all(|cell| cell.bytes().all(|c| b"-: ".contains(&c)))
        {
            continue;
        }
        let mut cells = row.iter().zip(head.iter());
        let tag = cells.next().map_or("", |(cell, _)| cell);
        let _ = writeln!(out, ".TP\n{}", guarded(&text(tag)));
        let rest: Vec<String> = cells
            .filter(|(cell, _)| !cell.is_empty())
            .map(|(cell, head)| match (row.len() > 2, head.is_empty()) {
                (true, false) => format!("{}: {}", text(head), text(cell)),
                _ => text(cell),
            })
            .collect();
        let _ = writeln!(out, "{}", guarded(&rest.join("; ")));
    }
}

/// The cells of a row; a bar behind a backslash is part of a cell.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|');
    let row = row.strip_suffix('|').unwrap_or(row).replace("\\|", "\0");
    row.split('|')
        .map(|cell| cell.trim().replace('\0', "|"))
        .collect()
}

fn starts_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("- ")
        || line
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

fn write_list(out: &mut String, block: &str) {
    let mut items: Vec<String> = Vec::new();
    for line in block.lines() {
        match items.last_mut() {
            Some(item) if !starts_item(line) => {
                item.push(' ');
                item.push_str(line.trim());
            }
            _ => items.push(line.trim().to_owned()),
        }
    }
    for item in items {
        let (mark, rest) = item.split_once(' ').unwrap_or((&item, ""));
        let mark = if mark == "-" { "\\(bu" } else { mark };
        let _ = writeln!(out, ".IP \"{mark}\" 4\n{}", guarded(&text(rest)));
    }
}

fn joined(block: &str) -> String {
    block.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A line's Markdown in roff: code and `**bold**` in bold, links as what they say.
fn text(markdown: &str) -> String {
    let mut out = String::new();
    for (at, part) in markdown.split('`').enumerate() {
        if at % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fP", escaped(part));
            continue;
        }
        for (at, part) in unlinked(part).split("**").enumerate() {
            if at % 2 == 1 {
                let _ = write!(out, "\\fB{}\\fP", escaped(part));
            } else {
                out.push_str(&escaped(part));
            }
        }
    }
    out
}

/// `[what](where)` without where, also if code stands in it, which ends the part.
fn unlinked(part: &str) -> String {
    let mut out = String::new();
    let mut rest = part;
    while let Some(at) = rest.find("](") {
        let end = rest[at..].find(')').map_or(rest.len(), |end| at + end + 1);
        let before = &rest[..at];
        match before.rfind('[') {
            Some(open) => {
                out.push_str(&before[..open]);
                out.push_str(&before[open + 1..]);
            }
            None => out.push_str(before),
        }
        rest = &rest[end..];
    }
    // A link that opens here and whose words are code.
    match rest.strip_suffix('[') {
        Some(before) => out.push_str(before),
        None => out.push_str(rest),
    }
    out
}

/// Characters that roff reads, as themselves.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('–', "\\(en")
}

/// A line that begins as a request does, as text.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(markdown: &str) -> String {
        let page = page(&HEAD, &[markdown]);
        page.split_once("tells\n").unwrap().1.to_owned()
    }

    const HEAD: Head = Head {
        name: "vlm-x",
        section: 1,
        manual: "a manual",
        version: "1.0",
        date: "2026-01-02",
        summary: "tells",
        usage: None,
    };

    #[test]
    fn the_head_names_the_page_and_shows_what_the_program_says() {
        let usage = Some("vlm-x [-a] FILE\n  .b  c\n");
        assert_eq!(
            page(&Head { usage, ..HEAD }, &["# Why\n\nSo.\n"]),
            ".TH VLM\\-X 1 \"2026-01-02\" \"vlmcaption 1.0\" \"a manual\"\n\
             .SH NAME\nvlm\\-x \\- tells\n\
             .SH SYNOPSIS\n.nf\nvlm\\-x [\\-a] FILE\n  .b  c\n.fi\n\
             .SH \"WHY\"\n.PP\nSo.\n"
        );
    }

    #[test]
    fn a_picture_is_left_out() {
        assert_eq!(
            of("One.\n\n![A `p`](p.svg)\n\nTwo.\n"),
            ".PP\nOne.\n.PP\nTwo.\n"
        );
    }

    #[test]
    fn headings_become_sections() {
        assert_eq!(
            of("# The element `x`\n\nSays.\n\n## Pads\n\n### When\n"),
            ".SH \"THE ELEMENT X\"\n.PP\nSays.\n.SH \"Pads\"\n.SS \"When\"\n"
        );
    }

    #[test]
    fn code_bold_and_links_keep_their_words() {
        assert_eq!(
            of("Set `a-b` to **no**, see [the page](x.md#y) or [`z`](z.md).\n"),
            ".PP\nSet \\fBa\\-b\\fP to \\fBno\\fP, see the page or \\fBz\\fP.\n"
        );
    }

    #[test]
    fn a_table_is_a_list_of_its_first_cells() {
        assert_eq!(
            of("| pad | caps | what |\n|---|---|---|\n| `sink` | a \\| b | frames |\n"),
            ".TP\n\\fBsink\\fP\ncaps: a | b; what: frames\n"
        );
        assert_eq!(of("| a | b |\n|---|---|\n| x | y |\n"), ".TP\nx\ny\n");
    }

    #[test]
    fn lists_and_code_stay_apart_from_the_text() {
        assert_eq!(
            of("- one\n  goes on\n- two\n"),
            ".IP \"\\(bu\" 4\none goes on\n.IP \"\\(bu\" 4\ntwo\n"
        );
        assert_eq!(
            of("```sh\n.hidden \\\n\n-x\n```\n\nAfter.\n"),
            ".PP\n.RS 4\n.nf\n\\&.hidden \\e\n\n\\-x\n.fi\n.RE\n.PP\nAfter.\n"
        );
    }
}
