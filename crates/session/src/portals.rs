//! The portals of a session by name.

use std::collections::HashMap;

use crate::extended::Portal;

/// Most drivers use none but the unnamed portal, which has a place of its own.
#[derive(Default)]
pub(crate) struct Portals {
    unnamed: Option<Portal>,
    named: HashMap<String, Portal>,
}

impl Portals {
    pub(crate) fn get(&self, name: &str) -> Option<&Portal> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// In place of one that had the name.
    pub(crate) fn insert(&mut self, name: &str, portal: Portal) {
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.named.insert(name.to_owned(), portal);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Portal> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    /// Ends those that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&mut Portal) -> bool) {
        if self.unnamed.as_mut().is_some_and(|portal| !keep(portal)) {
            self.unnamed = None;
        }
        self.named.retain(|_, portal| keep(portal));
    }

    /// Takes out those that are not to stay.
    pub(crate) fn split_off(&mut self, stays: impl Fn(&Portal) -> bool) -> Vec<(String, Portal)> {
        let unnamed = self.unnamed.take_if(|portal| !stays(portal)).map(|portal| (String::new(), portal));
        unnamed.into_iter().chain(self.named.extract_if(|_, portal| !stays(portal))).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}
