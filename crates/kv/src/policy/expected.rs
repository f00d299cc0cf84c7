//! Blocks that waiting requests are going to ask for.

use std::collections::HashMap;

use super::NodeKey;

/// Blocks with the place in the queue of the first prompt that needs them.
#[derive(Debug, Default)]
pub(super) struct Expected {
    places: HashMap<NodeKey, u32>,
}

impl Expected {
    /// Of prompts in the order of the queue: as many blocks as can be held.
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a [NodeKey]>, capacity: u32) -> Self {
        let mut places = HashMap::new();
        for (place, path) in (0..).zip(paths) {
            for key in path {
                if places.len() == capacity as usize {
                    return Self { places };
                }
                places.entry(*key).or_insert(place);
            }
        }
        Self { places }
    }

    /// The greater goes first: whatever is not expected, then what is needed last.
    pub(super) fn rank(&self, key: NodeKey) -> (bool, Option<u32>) {
        let place = self.places.get(&key).copied();
        (place.is_none(), place)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
