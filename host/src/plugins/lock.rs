//! `plugins.lock`: the digests that the host accepts. Where the directory has such a file, a component
//! whose digest is not in it is refused: what runs is what was released, and not what happened to be
//! copied. Who may write to the directory may write to the file as well; it keeps out mistakes.

use std::io::{self, Read};

use cap_std::fs::Dir;
use sha2::{Digest, Sha256};

/// As `sha256sum *.wasm` prints it.
const FILE: &str = "plugins.lock";
/// Bytes of the largest one that is read.
const MAX_SIZE: u64 = 1 << 20;

/// # Errors
/// There is a lock and it does not have this component, or it cannot be read; the text says what to do.
pub(super) fn check(directory: &Dir, wasm: &[u8]) -> Result<(), String> {
    let text = match read(directory) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(format!("{FILE} cannot be read, so nothing is accepted: {why}")),
    };
    let digest: String = Sha256::digest(wasm).iter().map(|byte| format!("{byte:02x}")).collect();
    if digests(&text)?.iter().any(|accepted| accepted.eq_ignore_ascii_case(&digest)) {
        return Ok(());
    }
    Err(format!(
        "its digest {digest} is not in {FILE}; if this build is meant to run, write the lock anew \
         (`sha256sum *.wasm > {FILE}`) and copy the component again"
    ))
}

fn read(directory: &Dir) -> io::Result<String> {
    let mut text = String::new();
    directory.open(FILE)?.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(text)
}

/// The digests of a lock: the first word of each line that is not empty and no comment.
///
/// # Errors
/// A line begins with something else.
fn digests(text: &str) -> Result<Vec<&str>, String> {
    let mut digests = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#'))
        else {
            continue;
        };
        if word.len() != 64 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!(
                "{FILE}, line {number}: it begins with no SHA-256 digest, so nothing is accepted; \
                 write it by `sha256sum *.wasm > {FILE}`"
            ));
        }
        digests.push(word);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn only_what_is_listed_is_accepted() {
        let place = tempfile::tempdir().unwrap();
        let directory = Dir::open_ambient_dir(place.path(), ambient_authority()).unwrap();
        assert_eq!(check(&directory, b"anything"), Ok(()), "without a lock");
        // `printf abc | sha256sum`
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let lock = |text: &str| std::fs::write(place.path().join(FILE), text).unwrap();
        lock(&format!("# released\n\n{abc}  abc.wasm\n"));
        assert_eq!(check(&directory, b"abc"), Ok(()));
        let why = check(&directory, b"abd").unwrap_err();
        assert!(why.contains("is not in plugins.lock") && why.contains("sha256sum"), "{why}");
        lock("");
        assert!(check(&directory, b"abc").is_err(), "an empty lock accepts nothing");
        lock(&format!("{abc}  abc.wasm\nabc.wasm\n"));
        let why = check(&directory, b"abc").unwrap_err();
        assert!(why.contains("line 2"), "{why}");
    }
}
