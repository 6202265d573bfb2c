// SPDX-License-Identifier: MPL-2.0

//! Every page in a browser, with a camera that sends H.264 and one that does not: video, clips, alarms, the
//! timeline, search and trying a question; on a phone and a desktop, dark and light, by keys alone.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::{Browser, HOSTILE};
use crate::site::{Running, Site, free_port, rtsp_camera, rtsp_camera_of};

const ENTER: &str = "\u{e007}";
const LEFT: &str = "\u{e012}";

/// Goes through all pages and calls `each` on every one.
fn walk(each: &dyn Fn(&Browser, &str)) {
    let Some(browser) = Browser::start() else {
        println!(
            "NOT RUN: there is no chromedriver; on Debian `apt-get install chromium-driver` brings it"
        );
        return;
    };
    let (port, other) = (free_port(), free_port());
    let _cameras = (rtsp_camera(port), rtsp_camera_of(other, "smpte", "h265"));
    let site = Site::new(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[search]\nsynonyms = {{ person = [\"man\", \"woman\"] }}\n\
         [[camera]]\nid = \"front\"\nname = \"Front door\"\nurl = \"rtsp://127.0.0.1:{port}/camera\"\n\
         [[camera.alarm]]\nid = \"open\"\nquestion = \"Is the door open?\"\non = 0.8\noff = 0.3\n\
         clip = {{ before = \"2s\", after = \"1s\", longest = \"6s\" }}\n\
         [[camera]]\nid = \"yard\"\nname = \"Yard <i>\"\nurl = \"test:ball\"\n\
         [[camera]]\nid = \"gate\"\nname = \"Gate\"\nurl = \"rtsp://127.0.0.1:{other}/camera\"\n"
    ));
    // One answer to everything, which begins with yes: three cameras ask in no certain order.
    site.mock(&json!([{"text": format!("Yes {HOSTILE}")}]));
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("to make the first user");
    browser.become_the_first_user(&running);
    browser.until("document.querySelectorAll('.tile').length === 3");
    browser.until("document.querySelector('.strip a')?.textContent.includes('open, Front door')");
    browser.until(
        "[...document.querySelectorAll('.tile img')].filter(i => i.naturalWidth).length === 3",
    );
    each(&browser, "live");
    tiles(&browser);
    video(&browser, each);
    timeline(&browser, each);
    alarms(&browser, each);
    search(&browser, each);
    trying(&browser, each);
    health(&browser, each);
    browser.script("document.activeElement.blur()");
    browser.keys("n");
    browser.until("location.hash === '#/camera/front'");
    browser.keys("p");
    browser.until("location.hash === '#/camera/gate'");
    browser.keys("?");
    browser.until("document.querySelector('dialog')?.open && document.querySelector('dialog').innerText.includes('the next and the previous camera')");
    each(&browser, "keys");
    browser.keys("\u{e00c}");
    browser.until("document.querySelector('dialog') === null");
    // A caption, a name, a note: none of them was taken for anything but text.
    assert_eq!(
        browser.script("document.querySelectorAll('main script, main i, main img[src=x]').length"),
        json!(0)
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
    running.terminate();
}

fn page(browser: &Browser, hash: &str) {
    browser.script(&format!("void (location.hash = {})", json!(hash)));
}

/// Video in the tiles of those that have some, once somebody wants it and until he does not.
fn tiles(browser: &Browser) {
    let press = "[...document.querySelectorAll('main button')].find(b => b.textContent === 'Video in the tiles').click()";
    let video = "document.querySelector('[data-camera=front] video')";
    browser.script(press);
    browser.until(&format!(
        "(v => !!v && !v.hidden && v.currentTime > 0)({video})"
    ));
    browser.script(&format!("void (self.kept = {video})"));
    // Stills and captions that come leave it where it is: one that is moved stops.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(
        browser.script(&format!("self.kept === {video} && !self.kept.paused")),
        json!(true)
    );
    let of_a_test_picture = browser.script("document.querySelector('[data-camera=yard] video')");
    assert_eq!(of_a_test_picture, json!(null));
    browser.script(press);
    browser.until("document.querySelector('.tile video') === null");
}

/// The camera's own video plays, close to what comes, and a camera without says why there are stills.
fn video(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    page(browser, "#/camera/front");
    browser.until("(v => !!v && !v.hidden && v.videoWidth === 640 && v.currentTime > 0)(document.querySelector('video'))");
    browser.until("document.querySelector('.tile').innerText.includes('Video, live')");
    let behind = "(v => v.buffered.end(v.buffered.length - 1) - v.currentTime)(document.querySelector('video'))";
    browser.until(&format!("{behind} <= 0.4"));
    let before = browser.script("document.querySelector('video').currentTime");
    let mut seen: Vec<f64> = Vec::new();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        seen.extend(browser.script(behind).as_f64());
    }
    seen.sort_by(f64::total_cmp);
    println!(
        "the picture is {:.2} s behind what has come, at most {:.2} s",
        seen[10], seen[19]
    );
    assert!(seen[19] < 2.0, "{seen:?}");
    let after = browser.script("document.querySelector('video').currentTime");
    assert!(after.as_f64() > before.as_f64(), "{before} {after}");
    each(browser, "camera");
    // Nothing is sent to a page that nobody sees, and it goes on when somebody does.
    let hide = |hidden: bool| {
        browser.script(&format!(
            "void (Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}), \
             document.dispatchEvent(new Event('visibilitychange')))"
        ));
    };
    hide(true);
    browser.until("document.querySelector('video').hidden && !document.querySelector('video').src");
    hide(false);
    browser.until("(v => !v.hidden && v.currentTime > 0)(document.querySelector('video'))");
    // H.265 plays where the browser has it, and is a still with the reason where it has not.
    page(browser, "#/camera/gate");
    browser.until("document.querySelector('h1').textContent === 'Gate'");
    browser.until(
        "/Video, live|Stills, one a second: this browser does not show H.265/.test(document.querySelector('.tile').innerText)",
    );
    let shown = browser.script("document.querySelector('.tile [role=status]').innerText");
    println!("H.265: {shown}");
    page(browser, "#/camera/yard");
    browser.until("document.querySelector('.tile').innerText.includes('Stills, one a second: a test picture is not coded')");
    assert_eq!(
        browser.script("document.querySelector('video').hidden"),
        json!(true)
    );
}

fn alarms(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    page(browser, "#/");
    browser.until("document.querySelector('h1').textContent === 'Live'");
    browser.keys("a");
    browser.until("document.querySelectorAll('.events h2').length >= 1");
    let first = "document.querySelector('.events li')";
    // The clip is whole once it is as long as it may be, and plays.
    let begin = std::time::Instant::now();
    while browser.script("document.querySelector('.events video')?.readyState >= 1") != json!(true)
    {
        page(browser, "#/");
        page(browser, "#/alarms");
        std::thread::sleep(Duration::from_secs(1));
        browser.script("document.querySelector('.events summary')?.click()");
        std::thread::sleep(Duration::from_secs(1));
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{}",
            browser.script("document.body.innerText")
        );
    }
    let length = browser.script("document.querySelector('.events video').duration");
    assert!((2.0..9.0).contains(&length.as_f64().unwrap()), "{length}");
    browser.until("document.querySelector('.trace polyline') !== null");
    browser
        .until("document.querySelector('.events figcaption').innerText.includes('begins at 80 %')");
    browser.type_into(".events input", "<img src=x onerror=alert(1)>\t");
    browser.until(&format!("fetch('api/v1/events/1').then(a => a.json()).then(e => {{ self.noted = e.note; }}) && self.noted === {}", json!("<img src=x onerror=alert(1)>")));
    each(browser, "alarms");
    browser.script("document.activeElement.blur()");
    browser.keys("js");
    browser.until(&format!("{first}.innerText.includes('★ starred')"));
    browser.keys("f");
    browser.until(&format!("{first}.innerText.includes('✕ false alarm')"));
    browser.keys("a");
    browser.until(&format!("{first}.innerText.includes('✓ seen to')"));
    page(browser, "#/alarms/all");
    browser.until(&format!("{first}?.innerText.includes('✓ seen to')"));
    page(browser, "#/alarms");
    browser.until("!document.querySelector('#event-1')");
}

fn timeline(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    page(browser, "#/");
    browser.until("document.querySelector('h1').textContent === 'Live'");
    browser.keys("t");
    browser
        .until("document.querySelector('section .list')?.innerText.includes('Front door: open')");
    browser.until("document.querySelector('section .list').innerText.includes('Front door: ')");
    browser.script("document.querySelector('[data-span=\"300\"]').click()");
    // Something is drawn in the colour of alarms, and of captions.
    let drawn = |name: &str| {
        format!(
            "(() => {{ const c = document.querySelector('canvas'); const p = document.createElement('span'); p.style.color = 'var(--{name})'; \
             document.body.append(p); const want = getComputedStyle(p).color.match(/\\d+/g).map(Number); p.remove(); \
             const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
             for (let i = 0; i < d.length; i += 4) if (d[i] === want[0] && d[i + 1] === want[1] && d[i + 2] === want[2]) return true; return false; }})()"
        )
    };
    browser.until(&drawn("bad"));
    browser.until(&drawn("link"));
    browser.keys(LEFT);
    browser.until("document.querySelectorAll('.moment li').length === 3");
    browser.until("document.querySelector('#spoken').textContent.startsWith('Cursor at')");
    browser.until("[...document.querySelectorAll('.moment img')].some(i => i.naturalWidth > 0)");
    let label = browser.script("document.querySelector('canvas').getAttribute('aria-label')");
    browser.keys("-");
    browser.until(&format!(
        "document.querySelector('canvas').getAttribute('aria-label') !== {label}"
    ));
    browser.keys("+");
    each(browser, "timeline");
}

fn search(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    browser.script("document.activeElement.blur()");
    browser.keys("/");
    browser.until("document.activeElement?.id === 'query'");
    // A person is a man as well, as the file says.
    browser.keys(&format!("person camera:front{ENTER}"));
    browser.until("document.querySelector('.list mark')?.textContent === 'man'");
    browser.until("document.querySelector('.filters .chip')?.textContent === 'camera:front ✕'");
    browser.until("document.querySelector('.list').innerText.includes('Front door') && !document.querySelector('.list').innerText.includes('Yard')");
    each(browser, "search");
    browser.click(".filters .chip");
    browser.until("location.hash === '#/search?q=person'");
    browser.until("/Yard|Gate/.test(document.querySelector('.list').innerText)");
    browser.until("document.querySelector('.card > [role=status]').textContent === 'That is all.'");
    // Saved in this browser, and found again on the empty page.
    let save =
        "[...document.querySelectorAll('.filters button')].find(b => b.textContent === 'Save')";
    browser.script(&format!("{save}.click()"));
    browser.until(&format!("!{save}"));
    page(browser, "#/search");
    browser.until("document.querySelector('.filters a')?.textContent === 'person'");
    page(browser, "#/search?q=person%20alarm%3Aopen");
    browser.until("document.querySelector('.list a')?.textContent.includes('Front door')");
    browser.click(".list a");
    browser.until("location.hash.startsWith('#/moment/front/')");
    browser.until("document.querySelector('li.picked')?.innerText.includes('A man.')");
    each(browser, "moment");
    let here = browser.script("location.hash");
    browser.keys(LEFT);
    browser.until(&format!(
        "location.hash.startsWith('#/moment/front/') && location.hash !== {here}"
    ));
}

fn trying(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    page(browser, "#/try");
    browser.until("document.querySelector('#try-on')?.value === '0.8'");
    browser.type_into("#try-question", &format!("Who is there?{ENTER}"));
    browser.until("/A man|Yes/.test(document.querySelector('form [role=status]').textContent)");
    browser.click("form:nth-of-type(2) button");
    browser.until("document.querySelector('form:nth-of-type(2)').innerText.includes('It would have begun once')");
    each(browser, "try");
}

/// How everything stands, in words, and the report that is copied.
fn health(browser: &Browser, each: &dyn Fn(&Browser, &str)) {
    browser.click("header a[href='#/health']");
    browser.until("document.querySelector('h1').textContent === 'Health'");
    let parts = ["front: live", "Disk", "mock", "vlmcaption-watch 0."];
    browser.until(&format!(
        "{}.every(part => document.querySelector('main').innerText.includes(part))",
        json!(parts)
    ));
    browser.click("main button");
    browser.until("/copied|marked/.test(document.querySelector('main [role=status]').textContent)");
    browser.script("getSelection().removeAllRanges()");
    each(browser, "health");
}

#[test]
fn every_page_works_by_keys_fits_every_screen_and_shows_video() {
    walk(&|browser, name| {
        for (width, height, scheme) in [
            (360, 740, "dark"),
            (360, 740, "light"),
            (1280, 800, "dark"),
            (1280, 800, "light"),
        ] {
            browser.look(width, height, scheme);
            browser.until("document.documentElement.scrollWidth <= innerWidth");
            browser.picture(&format!("{name}-{width}-{scheme}"));
            if width == 360 {
                // The bar is at the bottom, as wide as the screen, and nothing stays below it.
                browser.script("scrollTo(0, document.documentElement.scrollHeight)");
                browser.until("(b => Math.abs(b.bottom - innerHeight) < 1 && b.width === innerWidth)(document.querySelector('header nav').getBoundingClientRect())");
                browser.until("document.querySelector('main > :last-child').getBoundingClientRect().bottom <= document.querySelector('header nav').getBoundingClientRect().top");
                browser.until("[...document.querySelectorAll('header nav a')].every(a => a.hidden || a.getBoundingClientRect().right <= innerWidth)");
                browser.script("scrollTo(0, 0)");
            }
            let small = "[...document.querySelectorAll('button:not(.plain),header nav a,.tabs a,input,select,summary')].filter(e => e.offsetParent && e.offsetHeight < 44).map(e => e.outerHTML)";
            assert_eq!(browser.script(small), json!([]), "{name} {width}");
            let unnamed = "[...document.querySelectorAll('input,select')].filter(e => !e.labels.length && !e.ariaLabel).length + document.querySelectorAll('img:not([alt])').length";
            assert_eq!(browser.script(unnamed), json!(0), "{name}");
        }
    });
}

#[test]
#[ignore = "needs axe-core: WATCH_AXE=node_modules/axe-core/axe.min.js"]
fn axe_finds_nothing_serious_on_any_page() {
    let path = std::env::var("WATCH_AXE").expect("WATCH_AXE names axe.min.js");
    let axe = std::fs::read_to_string(path).unwrap();
    walk(&|browser, name| {
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light")] {
            browser.look(width, 800, scheme);
            browser.post("/execute/sync", &json!({"script": axe, "args": []}));
            let run = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => \
                       done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))\
                       .map(v => `${v.id}: ${v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | ')}`)), e => done([String(e)]))";
            let found = browser.post("/execute/async", &json!({"script": run, "args": []}));
            assert_eq!(found, Value::Array(Vec::new()), "{name} {width} {scheme}");
            println!("axe: nothing serious on {name}, {width} pixels, {scheme}");
        }
    });
}

/// Four cameras with the built-in model: two that send, one that is a test picture, one that is not there.
#[test]
#[ignore = "makes the pictures of docs/watch.md: WATCH_SCREENSHOTS=docs/watch"]
fn pictures_for_people() {
    assert!(std::env::var_os("WATCH_SCREENSHOTS").is_some());
    let browser = Browser::start().expect("chromedriver is not there");
    let (one, two, none) = (free_port(), free_port(), free_port());
    let _cameras = (
        rtsp_camera_of(one, "ball", "h264"),
        rtsp_camera_of(two, "smpte", "h264"),
    );
    let site = Site::new(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\
         [[camera]]\nid = \"door\"\nname = \"Front door\"\nurl = \"rtsp://127.0.0.1:{one}/camera\"\n\
         [[camera.alarm]]\nid = \"circle\"\nquestion = \"Is there a white circle?\"\nmin-duration = \"2s\"\n\
         clip = {{ before = \"4s\", after = \"2s\", longest = \"10s\" }}\n\
         [[camera]]\nid = \"yard\"\nname = \"Yard\"\nurl = \"rtsp://127.0.0.1:{two}/camera\"\n\
         [[camera]]\nid = \"hall\"\nname = \"Hall\"\nurl = \"test:checkers-8\"\n\
         masks = [{{ x = 0.6, y = 0.0, width = 0.4, height = 0.6 }}]\n\
         [[camera]]\nid = \"gate\"\nname = \"Gate\"\nurl = \"rtsp://127.0.0.1:{none}/camera\"\noffline-after = \"5s\"\n"
    ));
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("to make the first user");
    browser.become_the_first_user(&running);
    running.wait_for("alarm circle begins");
    let take = |name: &str| {
        browser.script("scrollTo(0, 0)");
        std::thread::sleep(Duration::from_millis(1_500));
        browser.picture(name);
    };
    browser.until("document.querySelectorAll('.tile').length === 4 && document.body.innerText.includes('offline since')");
    browser.until("[...document.querySelectorAll('.caption')].filter(c => !c.innerText.includes('no caption')).length >= 3");
    take("live");
    browser.look(360, 740, "dark");
    take("phone");
    browser.look(1280, 800, "dark");
    page(&browser, "#/camera/door");
    browser.until("document.querySelector('.tile').innerText.includes('Video, live')");
    browser.until("document.querySelectorAll('section .list img').length >= 1");
    take("camera");
    browser.look(1280, 800, "light");
    // The clip is whole after ten seconds.
    std::thread::sleep(Duration::from_secs(12));
    page(&browser, "#/alarms/all");
    browser.click("summary");
    browser.until("document.querySelector('.clip')?.readyState >= 2");
    take("alarms");
    page(&browser, "#/timeline");
    browser
        .until("document.querySelector('section .list')?.innerText.includes('Front door: circle')");
    browser.click("[data-span=\"300\"]");
    browser.script("document.activeElement.blur()");
    browser.keys(LEFT);
    browser.until("[...document.querySelectorAll('.moment img')].some(i => i.naturalWidth > 0)");
    take("timeline");
    page(&browser, "#/search?q=circle");
    browser.until("document.querySelector('.list mark') !== null");
    take("search");
    running.terminate();
}

#[test]
fn the_whole_page_is_at_most_60_kb() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let (mut whole, mut compressed, mut n) = (0, 0, 0);
    for file in files {
        whole += file.metadata().unwrap().len();
        let output = Command::new("gzip")
            .arg("-c")
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        compressed += output.stdout.len();
        n += 1;
    }
    println!("{n} files, {whole} bytes, {compressed} with gzip");
    assert!(
        n >= 12 && compressed <= 60_000,
        "{whole}, {compressed} with gzip"
    );
}
