// SPDX-License-Identifier: MPL-2.0

//! Elements by their names, and what to install where there is none.

/// Makes an element.
pub fn make(name: &str) -> Result<gst::Element, String> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        let package = match name {
            "vlmcaption" => return no_plugin(),
            "rtspsrc" | "rtph264depay" | "rtph265depay" | "rtpjpegdepay" | "jpegenc" => {
                "gstreamer1.0-plugins-good"
            }
            "h264parse" | "h265parse" => "gstreamer1.0-plugins-bad",
            _ => "gstreamer1.0-plugins-base",
        };
        format!("GStreamer has no element {name}; install {package}")
    })
}

/// What to do without the plugin.
pub fn no_plugin() -> String {
    "GStreamer does not find the element vlmcaption; install its plugin, name the folder that holds it in \
     GST_PLUGIN_PATH, or name the file with --plugin"
        .into()
}

/// What an error says.
pub(super) fn says(error: impl std::fmt::Display) -> String {
    error.to_string()
}
