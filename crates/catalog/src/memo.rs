//! What other layers make of a descriptor, kept beside it.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// A place for one thing that is made from a descriptor and takes long to make. It lives as long as this copy of the descriptor;
/// another copy begins without it, since it may be about to change. It is no part of what the descriptor says.
#[derive(Default)]
pub struct Memo(OnceLock<Box<dyn Any + Send + Sync>>);

impl Memo {
    /// What is kept, made when it is asked for first.
    ///
    /// # Errors
    /// Those of making it; then nothing is kept.
    ///
    /// # Panics
    /// When something of another type is kept: one user has the place.
    pub fn get_or_make<T: Any + Send + Sync + Clone, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(known) = self.0.get() {
            return Ok(known.downcast_ref::<T>().expect("one thing is kept in a place").clone());
        }
        let made = make()?;
        // Two may make it at once, and make the same.
        let _ = self.0.set(Box::new(made.clone()));
        Ok(made)
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Memo::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Memo) -> bool {
        true
    }
}

impl Eq for Memo {}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

#[cfg(test)]
mod tests {
    use super::Memo;

    #[test]
    fn it_is_made_once_and_not_copied() {
        let memo = Memo::default();
        assert_eq!(memo.get_or_make(|| Err::<u32, _>("no")), Err("no"));
        assert_eq!(memo.get_or_make(|| Ok::<u32, ()>(7)), Ok(7));
        assert_eq!(memo.get_or_make(|| Err::<u32, _>("again")), Ok(7));
        assert_eq!(memo.clone().get_or_make(|| Ok::<u32, ()>(8)), Ok(8));
    }
}
