// SPDX-License-Identifier: MPL-2.0

//! The page in each of its languages: nothing is missing, and a browser that asks for one gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::browser::{Browser, HOSTILE};
use crate::site::{Running, Site};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The texts in quotation marks that begin right after `before`.
fn quoted(text: &str, before: &str) -> Vec<String> {
    let parts = text.split(before).skip(1);
    parts
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

/// Every text that the page asks a translation of.
fn asked() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for file in std::fs::read_dir(folder()).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if !name.ends_with(".js") || ["de.js", "zh.js", "words.js"].contains(&name.as_str()) {
            continue;
        }
        let text = read(&name);
        for call in ["(t(\"", " t(\"", "[t(\"", "{t(\""] {
            keys.extend(quoted(&text, call));
        }
        for call in text.split("many(").skip(1) {
            keys.extend(
                call.split('"')
                    .skip(1)
                    .step_by(2)
                    .take(2)
                    .map(str::to_owned),
            );
        }
    }
    let page = read("index.html");
    for element in page.split(" data-t>").skip(1) {
        keys.insert(element.split('<').next().unwrap().to_owned());
    }
    for element in page.split(" data-t-label").collect::<Vec<_>>().windows(2) {
        let label = element[0].rsplit("aria-label=\"").next().unwrap();
        keys.insert(label.trim_end_matches('"').to_owned());
    }
    keys
}

fn translated(name: &str) -> BTreeMap<String, String> {
    let text = read(name);
    let body = text.split_once("export default").unwrap().1;
    let body = body.trim().trim_end_matches(';').replace(",\n}", "\n}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The places in a text for what is put in, in order.
fn places(text: &str) -> BTreeSet<char> {
    text.split('{')
        .skip(1)
        .filter_map(|rest| rest.chars().next())
        .collect()
}

#[test]
fn every_text_of_the_page_is_in_every_language() {
    let asked = asked();
    assert!(asked.len() > 150, "{}", asked.len());
    for name in ["de.js", "zh.js"] {
        let there = translated(name);
        let known: BTreeSet<String> = there.keys().cloned().collect();
        let (missing, left): (Vec<_>, Vec<_>) = (
            asked.difference(&known).collect(),
            known.difference(&asked).collect(),
        );
        assert!(missing.is_empty(), "{name} has not: {missing:?}");
        assert!(left.is_empty(), "nobody asks {name} for: {left:?}");
        for (key, text) in &there {
            assert!(!text.is_empty(), "{name}: {key}");
            assert_eq!(places(key), places(text), "{name}: {key}");
        }
    }
}

#[test]
fn a_browser_gets_its_language_and_people_can_choose_another() {
    for (language, lang, live, alarms, state) in [
        ("de", "de", "Live", "Alarme", "● live"),
        ("zh-CN", "zh-Hans", "实时", "警报", "● 实时"),
    ] {
        let Some(browser) = Browser::that_speaks(language) else {
            println!(
                "NOT RUN: there is no chromedriver; on Debian `apt-get install chromium-driver` brings it"
            );
            return;
        };
        let site = Site::new(
            "[server]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nid = \"door\"\nname = \"Door\"\nurl = \"test:ball\"\n\
             [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n",
        );
        site.mock(&json!([{"text": "Yes"}, {"text": HOSTILE}]));
        let mut running = Running::start(site.command(&["run"]));
        running.wait_for("to make the first user");
        browser.become_the_first_user(&running);
        let is = |selector: &str, text: &str| {
            browser.until(&format!(
                "document.querySelector({})?.innerText.trim() === {}",
                json!(selector),
                json!(text)
            ));
        };
        is("h1", live);
        is(".tile .state", state);
        is("nav a[href='#/alarms'] [data-t]", alarms);
        assert_eq!(browser.script("document.documentElement.lang"), json!(lang));
        // What a camera is said to show is not translated, and is text in every language.
        browser.until(&format!(
            "document.querySelector('.tile .caption')?.textContent === {}",
            json!(HOSTILE)
        ));
        browser.until("document.querySelector('.tile img')?.naturalWidth > 0");
        browser.picture(&format!("live-{language}"));
        for page in [
            "",
            "camera/door",
            "alarms",
            "timeline",
            "search",
            "try",
            "health",
        ] {
            browser.script(&format!("void (location.hash = '#/{page}')"));
            browser.until("document.querySelector('h1') !== null");
            for width in [360, 1280] {
                browser.look(width, 740, "light");
                browser.until("document.documentElement.scrollWidth <= innerWidth");
                browser.until("[...document.querySelectorAll('header nav a')].every(a => a.getBoundingClientRect().right <= innerWidth)");
            }
        }
        browser.script("void (location.hash = '#/alarms')");
        browser.until("document.querySelectorAll('.events h2').length === 1");
        is("h1", alarms);
        browser.picture(&format!("alarms-{language}"));
        // Another one is chosen, and stays after the page is loaded anew.
        browser.script(
            "(c => { c.value = 'en'; c.dispatchEvent(new Event('change')); })(document.getElementById('language'))",
        );
        is("h1", "Alarms");
        assert_eq!(browser.script("document.documentElement.lang"), json!("en"));
        assert_eq!(browser.complaints(), Vec::<String>::new());
        running.terminate();
    }
}
