//! Memory that one statement may hold in hash tables, sorts and materialised rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_datum::{Result, SqlError, SqlState};

/// The account of one statement.
#[derive(Clone, Debug)]
pub struct MemoryAccount(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes taken from an account by one operator, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    account: MemoryAccount,
    bytes: usize,
}

impl MemoryAccount {
    /// An account of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        MemoryAccount(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// An empty reservation.
    pub fn reservation(&self) -> Reservation {
        Reservation { account: self.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Takes more.
    ///
    /// # Errors
    /// 53200 when the statement would hold more than its limit.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let account = &self.account.0;
        let used = account.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if used > account.limit {
            return Err(out_of_memory(account.limit));
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cold]
fn out_of_memory(limit: usize) -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
        .with_detail(format!("The statement needs more than the {} MB allowed to it.", limit >> 20))
        .with_hint("Raise statement_memory_limit, or make the statement read or sort fewer rows.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_of_all_operators_together_and_memory_comes_back() {
        let account = MemoryAccount::new(100);
        let mut a = account.reservation();
        let mut b = account.reservation();
        a.grow(60).unwrap();
        assert_eq!(b.grow(60).unwrap_err().state, SqlState::OUT_OF_MEMORY);
        drop(b);
        drop(a);
        account.reservation().grow(100).unwrap();
    }
}
