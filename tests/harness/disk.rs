//! A disk so small that a test can fill it: a file system in memory, under a server's directory.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Megabytes: enough for a new Postgres and for what a test writes before it fills the rest.
const SIZE: u32 = 192;

/// It is taken away when this is dropped, with all that lies on it.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Puts a small disk under `place`, which is made. None where this process may not: that takes root,
    /// and a machine that lets root mount.
    ///
    /// # Errors
    /// The directory cannot be made, or there is no `mount`.
    pub fn under(place: &Path) -> Result<Option<SmallDisk>> {
        std::fs::create_dir(place).with_context(|| place.display().to_string())?;
        let options = format!("size={SIZE}m,mode=711");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tribox-test"]).arg(place);
        let output = mounted.output().context("mount")?;
        Ok(output.status.success().then(|| SmallDisk { place: place.to_owned() }))
    }

    /// Fills it to the last block; again, if something on it has become smaller since.
    ///
    /// # Errors
    /// It fails for another reason than being full.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        for chunk in [1 << 20, 4 << 10] {
            loop {
                match ballast.write_all(&vec![0; chunk]) {
                    Ok(()) => {}
                    Err(why) if why.kind() == ErrorKind::StorageFull => break,
                    Err(why) => return Err(why).context("ballast"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not filled.
    pub fn make_room(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("ballast")
    }

    /// Holds that a directory lies on it, and not elsewhere.
    ///
    /// # Errors
    /// It does not.
    pub fn holds(&self, directory: &Path) -> Result<()> {
        ensure!(directory.starts_with(&self.place), "{} is elsewhere", directory.display());
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: it goes as soon as nothing uses it any more.
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
