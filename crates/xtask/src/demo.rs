//! `cargo xtask demo`: the server on the default model, and what to do with it.

use anyhow::Result;
use clap::Args;

use crate::modules::Purpose;
use crate::{npm, process, setup};

/// Options of the demo.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Flags for reprise-server, after `--`
    #[arg(last = true)]
    server: Vec<String>,
}

/// Fetches the model, builds the page with its engine, then the server, and runs it until it is stopped.
pub(crate) fn run(arguments: &DemoArgs) -> Result<()> {
    let model = setup::default_model()?;
    let slots = setup::cache_folder()?.join("demo-slots");
    std::fs::create_dir_all(&slots)?;
    npm::everything(Purpose::Shipping)?;
    let binary = process::release_server()?;
    let address = format!("http://127.0.0.1:{}", arguments.port);
    println!(
        "\nOpen {address}/ in a browser, or try:\n\n  curl -s {address}/v1/chat/completions -d '{{\"messages\": [{{\"role\": \
         \"user\", \"content\": \"Name three rivers.\"}}], \"max_tokens\": 48}}'\n\nAsk twice: the second answer's \
         timings.cache_n says how much of the prompt was not computed again. The page also runs the model itself: switch \
         to \"in this browser\". Ctrl-C stops the server.\n"
    );
    let mut server = std::process::Command::new(binary);
    server.arg("--model").arg(model).args([
        "--port",
        &arguments.port.to_string(),
        "--parallel",
        "2",
        "--ctx-size",
        "4096",
    ]);
    process::run(server.arg("--slot-save-path").arg(slots).args(&arguments.server))
}
