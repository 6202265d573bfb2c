// SPDX-License-Identifier: MPL-2.0
// A camera's video over a WebSocket into a MediaSource. The still lies below it: whatever does not work,
// a picture is there, and words say why it is a still.

import { t } from "./words.js";

const Source = self.ManagedMediaSource ?? self.MediaSource;
/** How far behind the end of what has come the picture may be, in seconds. */
const near = 0.4;
/** What was shown is forgotten after this, in seconds. */
const past = 10;

/** What keeps this browser from showing a coding, in words; nothing if it shows it. */
function unsupported(mime) {
  if (!Source) return t("this browser has no MediaSource");
  if (Source.isTypeSupported(mime)) return null;
  return t("this browser does not show {0}", /hvc1|hev1/.test(mime) ? "H.265" : mime);
}

/**
 * Shows the video of a camera in `video` until it is stopped. `tell` is told of each change: "live", or
 * why stills are shown.
 */
export function play(video, address, tell) {
  let socket = null;
  let timer = null;
  let wait = 1000;
  let stopped = false;

  function end() {
    clearTimeout(timer);
    timer = null;
    const old = socket;
    socket = null;
    // One that is closed before it is open is a fault to the browser.
    if (old?.readyState === WebSocket.CONNECTING) old.addEventListener("open", () => old.close());
    else old?.close();
    if (video.src) URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
    video.hidden = true;
  }

  function again(why) {
    end();
    if (stopped || document.hidden) return;
    if (why) tell(why);
    timer = setTimeout(begin, wait);
    wait = Math.min(2 * wait, 30e3);
  }

  function begin() {
    end();
    if (stopped || document.hidden) return;
    const mine = socket = new WebSocket(new URL(address, document.baseURI).href.replace(/^http/, "ws"));
    mine.binaryType = "arraybuffer";
    let buffer = null;
    const waiting = [];
    // Appends what waits; one at a time, as the browser asks.
    const feed = () => {
      if (mine !== socket || !buffer || buffer.updating) return;
      try {
        const ranges = buffer.buffered;
        if (ranges.length && video.currentTime - ranges.start(0) > 2 * past) {
          buffer.remove(0, video.currentTime - past);
        } else if (waiting.length) {
          buffer.appendBuffer(waiting.shift());
        }
      } catch (error) { again(t("the video stopped: {0}", error.message)); }
    };
    mine.onmessage = (event) => {
      if (mine !== socket) return;
      if (typeof event.data !== "string") {
        // A browser that has shown nothing of so much will not.
        if (waiting.push(event.data) > 300) return again(t("the browser is too slow for the video"));
        return feed();
      }
      const { mime } = JSON.parse(event.data);
      const why = unsupported(mime);
      if (why) { end(); tell(why); return; }
      const source = new Source();
      video.disableRemotePlayback = true;
      video.muted = true;
      video.src = URL.createObjectURL(source);
      source.addEventListener("sourceopen", () => {
        if (mine !== socket) return;
        buffer = source.addSourceBuffer(mime);
        buffer.addEventListener("updateend", () => { catchUp(); feed(); });
        feed();
      }, { once: true });
      video.play().catch(() => {});
    };
    // Stays close to what comes: by a little speed, and by a leap where that would take too long.
    const catchUp = () => {
      const ranges = video.buffered;
      if (!ranges.length) return;
      const last = ranges.end(ranges.length - 1);
      const behind = last - video.currentTime;
      if (video.currentTime < ranges.start(ranges.length - 1) || behind > 1.5) video.currentTime = Math.max(last - 0.1, ranges.start(ranges.length - 1));
      video.playbackRate = behind > near ? 1.1 : 1;
      if (video.paused) video.play().catch(() => {});
      if (video.hidden && video.videoWidth) {
        video.hidden = false;
        wait = 1000;
        tell("live");
      }
    };
    mine.onclose = (event) => { if (mine === socket) again(event.reason || t("the video is interrupted")); };
  }

  const onHidden = () => (document.hidden ? end() : begin());
  document.addEventListener("visibilitychange", onHidden);
  video.addEventListener("error", () => { if (socket) again(t("the browser cannot decode the video")); });
  begin();
  return () => {
    stopped = true;
    document.removeEventListener("visibilitychange", onHidden);
    end();
  };
}
