//! A vector that grows by pieces: what is in it never moves, and growing leaves no copy behind.
//!
//! A million rows in one piece would be copied again and again while they come, and what was freed on the way stays with
//! the process. It never has more than one piece that is not full.

/// How many elements a piece has; the first piece grows up to it, so that a few elements cost no more than they take.
const PIECE: usize = 64;

/// A vector in pieces.
#[derive(Debug)]
pub struct Chunked<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunked<T> {
    /// An empty one, which takes no memory.
    pub const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        let last = self.pieces.last().map_or(0, Vec::len);
        self.pieces.len().saturating_sub(1) * PIECE + last
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds an element behind all others.
    pub fn push(&mut self, element: T) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(element),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(element);
                self.pieces.push(piece);
            }
            None => self.pieces.push(vec![element]),
        }
    }

    /// The element at this place.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    /// The element at this place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }
}

impl<T> IntoIterator for Chunked<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_vector_holds() {
        let mut chunked = Chunked::new();
        for count in 0..=3 * PIECE {
            assert_eq!(chunked.len(), count);
            assert_eq!(chunked.is_empty(), count == 0);
            assert_eq!(chunked.get(count), None);
            chunked.push(count);
            assert_eq!(chunked.get(count), Some(&count));
        }
        *chunked.get_mut(PIECE).unwrap() = 0;
        assert_eq!(chunked.get(PIECE), Some(&0));
        let seen: Vec<_> = chunked.iter().copied().collect();
        assert_eq!(seen, chunked.into_iter().collect::<Vec<_>>());
        assert_eq!(seen.len(), 3 * PIECE + 1);
    }

    #[test]
    fn what_is_in_it_never_moves_once_the_first_piece_is_full() {
        let mut chunked = Chunked::new();
        for number in 0..PIECE {
            chunked.push(number);
        }
        let first: *const usize = chunked.get(0).unwrap();
        for number in 0..100 * PIECE {
            chunked.push(number);
        }
        assert_eq!(first, std::ptr::from_ref(chunked.get(0).unwrap()));
    }
}
