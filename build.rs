// SPDX-License-Identifier: MPL-2.0

//! Stamps version, commit and date into the plugin's description; looks for nothing else.

fn main() {
    gst_plugin_version_helper::info();
}
