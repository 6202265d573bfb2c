// SPDX-License-Identifier: MPL-2.0

//! `cameras`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::discover;

use super::common::print;

/// Find cameras in this network
#[derive(Debug, Args)]
pub struct CamerasCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask the network for ONVIF cameras (WS-Discovery), and say who answers
    Discover {
        /// How long to listen, in seconds
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
        wait: u64,
        /// Whom to ask, if not all
        #[arg(long, value_name = "ADDRESS:PORT", default_value_t = discover::GROUP)]
        to: SocketAddr,
    },
}

impl CamerasCommand {
    pub fn run(self) -> Result<(), String> {
        let What::Discover { wait, to } = self.what;
        let found = discover::discover(to, Duration::from_secs(wait))?;
        if found.is_empty() {
            return print(
                "no camera answered; those without ONVIF, or in another network, have to be looked up in their own pages",
            );
        }
        for camera in &found {
            let known = [camera.name.as_str(), camera.hardware.as_str()];
            let known: Vec<&str> = known.into_iter().filter(|text| !text.is_empty()).collect();
            print(&format!(
                "{}  {}  {}",
                camera.from.ip(),
                known.join(", "),
                camera.addresses.join(" ")
            ))?;
        }
        print(
            "Its page or manual says which rtsp:// address its second stream has; `check --connect` tries it.",
        )
    }
}
