//! `--watch`: something is done again whenever a file that it came from has changed. A change is
//! taken up once the files have stood still between two looks, so that a build that is being
//! written is never read.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::say;

const LOOK: Duration = Duration::from_millis(200);

/// What tells one state of a file from another; `None` where it is not there.
pub(super) type Stamp = Option<(Option<SystemTime>, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

/// The state of some files.
pub(super) fn look(files: &[PathBuf]) -> Vec<(PathBuf, Stamp)> {
    files.iter().map(|file| (file.clone(), stamp(file))).collect()
}

/// Runs `work`, and again after each change of what `files` names, until the process is ended.
/// `files` is asked anew at each look, so that it may name what has come meanwhile.
pub(super) fn again_on_change(files: impl Fn() -> Vec<PathBuf>, mut work: impl FnMut()) -> ! {
    loop {
        let done = look(&files());
        work();
        say("\nwatching for changes; Ctrl-C ends it");
        let mut before = done.clone();
        loop {
            std::thread::sleep(LOOK);
            let now = look(&files());
            if now != done && now == before {
                break;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_changes_or_goes_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let files = [place.path().join("a")];
        let nothing = look(&files);
        std::fs::write(&files[0], "1").unwrap();
        let there = look(&files);
        assert_ne!(nothing, there);
        assert_eq!(look(&files), there);
        std::fs::write(&files[0], "12").unwrap();
        assert_ne!(look(&files), there);
        std::fs::remove_file(&files[0]).unwrap();
        assert_eq!(look(&files), nothing);
    }
}
