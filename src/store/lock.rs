//! Locks on files that the system drops when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// How often a lock that is held is asked for again. A child of ours holds it too between its fork and its program.
const TRIES: u32 = 20;
/// And how soon.
const AGAIN: Duration = Duration::from_millis(10);

/// Locks `file` for this process. Whether nobody else has.
pub(super) fn alone(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => sleep(AGAIN),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}
