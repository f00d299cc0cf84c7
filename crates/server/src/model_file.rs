//! The model file: given, or downloaded into the per-user cache with progress, resume and checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hf_hub::Cache;
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::cli::ModelArgs;

/// Quantisation of `--hf-repo user/repo` without one.
const DEFAULT_QUANT: &str = "Q4_K_M";
const RETRIES: usize = 3;
const CHUNK: usize = 1 << 20;

/// The file to load, downloaded first if need be.
///
/// # Errors
/// When no model is named, or a download fails or has the wrong checksum.
pub(crate) fn locate(arguments: &ModelArgs) -> Result<PathBuf> {
    if let Some(path) = &arguments.model {
        return Ok(path.clone());
    }
    if let Some(url) = &arguments.model_url {
        return from_url(url, arguments.model_sha256.as_deref(), &cache_folder()?);
    }
    if let Some(repo) = &arguments.hf_repo {
        return from_hub(repo, arguments);
    }
    bail!("no model given: use --model FILE, --model-url URL or --hf-repo USER/REPO")
}

/// Where downloads are kept: `$REPRISE_CACHE`, or `reprise` in the system's per-user cache folder.
fn cache_folder() -> Result<PathBuf> {
    match std::env::var_os("REPRISE_CACHE") {
        Some(folder) if !folder.is_empty() => Ok(folder.into()),
        _ => Ok(dirs::cache_dir().context("no cache folder: set REPRISE_CACHE or HOME")?.join("reprise")),
    }
}

/// Downloads `url` into `folder`. A broken download goes on where it stopped; a finished one is not fetched again.
fn from_url(url: &str, sha256: Option<&str>, folder: &Path) -> Result<PathBuf> {
    let name =
        url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("'{url}' does not name a file"))?;
    // Two servers may name different files alike: the folder is the URL's.
    let folder = folder.join("downloads").join(&hex(&Sha256::digest(url))[..16]);
    let (target, partial) = (folder.join(name), folder.join(format!("{name}.part")));
    if !target.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
        download(url, &partial).with_context(|| format!("cannot download '{url}'"))?;
        if let Some(wanted) = sha256 {
            verify(&partial, wanted)?;
        }
        fs::rename(&partial, &target)?;
    }
    Ok(target)
}

fn download(url: &str, partial: &Path) -> Result<()> {
    let mut last = None;
    for _ in 0..=RETRIES {
        match download_rest(url, partial) {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!("download broke off, trying again: {error:#}");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no attempt was made")))
}

/// One attempt: asks for what `partial` does not hold yet.
fn download_rest(url: &str, partial: &Path) -> Result<()> {
    let held = fs::metadata(partial).map_or(0, |metadata| metadata.len());
    let response = ureq::get(url)
        .header("range", &format!("bytes={held}-"))
        .config()
        .http_status_as_error(false)
        .build()
        .call()?;
    let resumed = match response.status().as_u16() {
        206 => true,
        200 => false,
        // Nothing is left to send.
        416 if held > 0 => return Ok(()),
        status => bail!("the server answered with status {status}"),
    };
    let held = if resumed { held } else { 0 };
    let rest = response.body().content_length();
    let mut file =
        OpenOptions::new().create(true).append(resumed).write(true).truncate(!resumed).open(partial)?;
    let bar = progress_bar(rest.map(|rest| held + rest), held);
    let mut body = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let read = body.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        file.write_all(&chunk[..read])?;
        received += read as u64;
        bar.inc(read as u64);
    }
    bar.finish();
    ensure!(rest.is_none_or(|rest| rest == received), "the connection closed after {received} bytes");
    file.sync_all()?;
    Ok(())
}

fn progress_bar(total: Option<u64>, held: u64) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_position(held);
    bar
}

/// Fetches a file of a hub repository through hf-hub, which honours `HF_ENDPOINT` and `HF_HOME`.
fn from_hub(repo: &str, arguments: &ModelArgs) -> Result<PathBuf> {
    let (name, quant) = repo.split_once(':').map_or((repo, None), |(name, quant)| (name, Some(quant)));
    let mut builder = ApiBuilder::from_env().with_retries(RETRIES);
    if arguments.hf_token.is_some() {
        builder = builder.with_token(arguments.hf_token.clone());
    }
    let repo = builder.build().context("cannot set up the hub client")?.model(name.to_owned());
    let file = match &arguments.hf_file {
        Some(file) => file.clone(),
        None => choose_file(&repo, name, quant)?,
    };
    if let Some(kept) = Cache::from_env().model(name.to_owned()).get(&file) {
        return Ok(kept);
    }
    let path =
        repo.download(&file).with_context(|| format!("cannot download '{file}' of '{name}' from the hub"))?;
    verify_blob(&path)?;
    Ok(path)
}

/// The hub's cache calls a large file by its SHA-256: checks a fresh download against its own name.
fn verify_blob(path: &Path) -> Result<()> {
    let blob = fs::canonicalize(path)?;
    let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sha256 { verify(&blob, &name) } else { Ok(()) }
}

fn choose_file(repo: &ApiRepo, name: &str, quant: Option<&str>) -> Result<String> {
    let info = repo.info().with_context(|| format!("cannot list '{name}' on the hub"))?;
    let mut files: Vec<String> =
        info.siblings.into_iter().map(|file| file.rfilename).filter(|file| is_model(file)).collect();
    files.sort();
    let wanted = quant.unwrap_or(DEFAULT_QUANT).to_lowercase();
    let found = files.iter().find(|file| file.to_lowercase().contains(&wanted));
    match (found, quant) {
        (Some(file), _) => Ok(file.clone()),
        (None, None) if !files.is_empty() => Ok(files.swap_remove(0)),
        _ => bail!("'{name}' has no GGUF file for '{wanted}'; it has: {}", files.join(", ")),
    }
}

fn is_model(file: &str) -> bool {
    let file = file.to_lowercase();
    file.ends_with(".gguf") && !file.contains("mmproj")
}

/// Checks a file's SHA-256. A wrong file is removed, so that the next start fetches it anew.
fn verify(path: &Path, wanted: &str) -> Result<()> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    let found = hex(&hasher.finalize());
    if !found.eq_ignore_ascii_case(wanted) {
        fs::remove_file(path)?;
        bail!("the downloaded file has SHA-256 {found}, not {wanted}; it was removed, try again");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
