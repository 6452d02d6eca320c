//! An allocator for an instance that lives for one message: it hands out a fixed piece of memory from
//! its start on, and only when that is used up it goes to the allocator of std.
//!
//! What a handler needs for an ordinary message fits, so that memory never grows: growing it, and
//! taking it back after the message, costs the host two changes of the process's memory map.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Bytes that are handed out before std's allocator is asked.
const SIZE: usize = 64 << 10;
/// What the piece itself is aligned to; more is left to std's allocator.
const ALIGN: usize = 16;

#[repr(align(16))]
struct Piece(UnsafeCell<[u8; SIZE]>);

/// The allocator: `#[global_allocator]` of a component, by the feature `arena`.
pub struct Arena {
    piece: Piece,
    /// Everything from here on is free.
    next: Cell<usize>,
}

// SAFETY: a component has one thread. The type is used as a static there and nowhere else.
#[expect(unsafe_code, reason = "a static has to be Sync, and a component has one thread")]
unsafe impl Sync for Arena {}

impl Arena {
    #[must_use]
    pub const fn new() -> Arena {
        Arena { piece: Piece(UnsafeCell::new([0; SIZE])), next: Cell::new(0) }
    }

    fn base(&self) -> *mut u8 {
        self.piece.0.get().cast()
    }

    /// Where in the piece `pointer` points to, if it does.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        (pointer as usize).checked_sub(self.base() as usize).filter(|offset| *offset < SIZE)
    }

    /// Takes `layout` out of the piece, if it fits.
    fn take(&self, layout: Layout) -> Option<usize> {
        if layout.align() > ALIGN {
            return None;
        }
        let start = self.next.get().next_multiple_of(layout.align());
        let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
        self.next.set(end);
        Some(start)
    }
}

// SAFETY: pieces are handed out from `next` on and do not overlap; `next` goes back only over what was
// handed out last. What does not point into the piece came from std's allocator and goes back to it.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(start) => unsafe { self.base().add(start) },
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match self.offset(pointer) {
            Some(offset) if offset + layout.size() == self.next.get() => self.next.set(offset),
            Some(_) => {}
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(pointer) else {
            return unsafe { System.realloc(pointer, layout, size) };
        };
        let last = offset + layout.size() == self.next.get();
        if last && offset.checked_add(size).is_some_and(|end| end <= SIZE) {
            self.next.set(offset + size);
            return pointer;
        }
        if size <= layout.size() {
            return pointer;
        }
        // SAFETY: the layout of `pointer` was valid, and `size` is what the caller vouches for.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are valid for the old size, and do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "an allocator is called by unsafe functions")]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let arena = Arena::new();
        let (one, eight) = (layout(1, 1), layout(24, 8));
        let (a, b, c) = unsafe { (arena.alloc(one), arena.alloc(eight), arena.alloc(one)) };
        assert_eq!(b as usize % 8, 0);
        assert!(a < b && b as usize + 24 <= c as usize);
    }

    #[test]
    fn the_last_piece_grows_in_place_and_is_given_back() {
        let arena = Arena::new();
        let small = layout(16, 8);
        unsafe {
            let a = arena.alloc(small);
            assert_eq!(arena.realloc(a, small, 64), a);
            let b = arena.alloc(small);
            a.write_bytes(7, 64);
            let moved = arena.realloc(a, layout(64, 8), 128);
            assert_ne!(moved, a, "something stands behind it");
            assert_eq!(moved.add(63).read(), 7);
            arena.dealloc(moved, layout(128, 8));
            arena.dealloc(b, small);
            assert_eq!(arena.alloc(small), b);
        }
    }

    #[test]
    fn what_does_not_fit_goes_to_std() {
        let arena = Arena::new();
        unsafe {
            let large = arena.alloc(layout(SIZE + 1, 8));
            assert_eq!(arena.offset(large), None);
            let larger = arena.realloc(large, layout(SIZE + 1, 8), 2 * SIZE);
            arena.dealloc(larger, layout(2 * SIZE, 8));
            let page = arena.alloc(layout(64, 4_096));
            assert_eq!((arena.offset(page), page as usize % 4_096), (None, 0));
            arena.dealloc(page, layout(64, 4_096));
            let whole = arena.alloc(layout(SIZE, 16));
            assert_eq!(arena.offset(whole), Some(0));
            let moved = arena.realloc(whole, layout(SIZE, 16), SIZE + 16);
            assert_eq!(arena.offset(moved), None);
            arena.dealloc(moved, layout(SIZE + 16, 16));
        }
    }
}
