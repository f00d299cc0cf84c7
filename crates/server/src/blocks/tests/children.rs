//! What needs a process of its own: one that is killed, one without permissions, one that may not write long files.
//!
//! The child is this test program, told by a variable which folder to work in and so to be the child.

use std::env;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use super::*;

const FOLDER: &str = "REPRISE_TEST_CHILD";
const READY: &str = "the child writes";
const CHAINS: u32 = 8;

/// The folder to work in, for a child.
fn child() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// A command that runs only `test`, as a child.
fn command(program: &[&Path], test: &str, folder: &Path) -> Command {
    let module = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(format!("{module}::{test}")).args(["--exact", "--nocapture"]);
    command.env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeds(mut command: Command) {
    let output = loop {
        match command.output() {
            // Another test has started a child while the program was copied, which has it open for a moment.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(5));
            }
            output => break output.unwrap(),
        }
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
    assert!(said(&output.stdout).contains("1 passed"), "the child has not run: {}", said(&output.stdout));
}

fn all_chains() -> Vec<Block> {
    (0..CHAINS).flat_map(|seed| chain(seed, 4, 200_000)).collect()
}

#[test]
fn a_server_that_is_killed_while_it_writes_leaves_whole_blocks_or_none() {
    let blocks = all_chains();
    if let Some(folder) = child() {
        let store = open(&folder);
        writeln!(io::stdout(), "{READY}").unwrap();
        loop {
            write_all(&store, &blocks);
            blocks.iter().for_each(|block| store.discard(&block.key));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "a_server_that_is_killed_while_it_writes_leaves_whole_blocks_or_none";
    let (mut whole, mut halves) = (0, 0);
    for round in 0..100 {
        let mut child = command(&[&env::current_exe().unwrap()], test, folder.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)));
        thread::sleep(Duration::from_millis(5 + 7 * (round % 12)));
        child.kill().unwrap();
        child.wait().unwrap();
        let temporary = || {
            let subfolders = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let files = subfolders.flat_map(|path| fs::read_dir(path).unwrap());
            files
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_none_or(|extension| extension != "kv"))
                .collect::<Vec<_>>()
        };
        halves += temporary().len();
        temporary().iter().for_each(|path| age(path, 1000));
        let store = open(folder.path());
        assert!(temporary().is_empty());
        assert!(store.stats().blocks <= blocks.len() as u64);
        for block in &blocks {
            // A damaged block would count as one here: nothing but a power failure makes those.
            if let Some(bytes) = block_on(store.read(&block.key)) {
                assert_eq!(block.decode(&bytes), Some(&block.payload[..]));
                whole += 1;
            }
        }
        if round >= 12 && halves > 0 {
            break;
        }
    }
    assert!(
        whole > 0 && halves > 0,
        "{whole} whole blocks, {halves} half-written files: nothing was cut off"
    );
}

#[test]
fn a_disk_that_is_full_drops_the_write() {
    if let Some(folder) = child() {
        let (large, small) = (&chain(1, 1, 1 << 20)[0], &chain(2, 1, 100)[0]);
        let store = open(&folder);
        write_all(&store, [large, small]);
        assert!(large.fetch(&store).is_none() && !store.holds(&large.key));
        assert_eq!(small.fetch(&store).unwrap(), small.payload);
        assert_eq!((store.stats().blocks, store.stats().dropped), (1, 1));
        let left = fs::read_dir(large.file(&folder).parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "a half-written file is left");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The system takes some bytes of a long file and then refuses, as on a disk that is full.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let this = env::current_exe().unwrap();
    let program = [Path::new("sh"), Path::new("-c"), Path::new(script), &this];
    succeeds(command(&program, "a_disk_that_is_full_drops_the_write", folder.path()));
}

#[test]
fn without_permission_nothing_is_read_or_written_and_the_rest_goes_on() {
    if let Some(folder) = child() {
        let blocks = chain(1, 3, 100);
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let store = open(&folder.join("cache"));
        let [file, forbidden] = [0, 1].map(|number: usize| blocks[number].file(&folder.join("cache")));
        write_all(&store, &blocks[..1]);
        fs::create_dir(forbidden.parent().unwrap()).unwrap();
        mode(forbidden.parent().unwrap(), 0o500);
        mode(&file, 0o000);
        write_all(&store, &blocks);
        assert!(blocks[0].fetch(&store).is_none() && blocks[1].fetch(&store).is_none());
        assert_eq!(blocks[2].fetch(&store).unwrap(), blocks[2].payload);
        assert_eq!(store.stats().dropped, 1);
        mode(forbidden.parent().unwrap(), 0o700);
        mode(&file, 0o600);
        write_all(&store, &blocks);
        assert!(blocks.iter().all(|block| block.fetch(&store).as_deref() == Some(&block.payload[..])));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let test = "without_permission_nothing_is_read_or_written_and_the_rest_goes_on";
    let mut command = command(&[&program], test, folder.path());
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        // Everything is permitted to root.
        command.uid(65534).gid(65534);
    }
    succeeds(command);
}
