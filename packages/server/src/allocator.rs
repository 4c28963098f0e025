//! Where memory comes from.
//!
//! The engine allocates much and frees on other threads than it allocated on: mimalloc serves sixteen clients at once about a
//! fifth faster than glibc (`cargo bench --bench rooms -- crowd`). But it writes zeros over a large block that is asked for
//! zeroed, and keeps it when it is freed, where the system hands out pages that take no memory until something is written, and
//! takes them back. A memtable is such a block, of which most is never used: large ones go to the system.

#![expect(unsafe_code, reason = "an allocator can't be said otherwise")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
};

use mimalloc::MiMalloc;

/// mimalloc, and the system for large blocks.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// From how many bytes on a block is the system's.
const LARGE: usize = 4 << 20;

/// Who has a block of this size. A block's owner can be told by its layout alone, which comes with every call.
fn of(size: usize) -> &'static dyn GlobalAlloc {
    if size < LARGE { &MiMalloc } else { &System }
}

// SAFETY: each call goes as it came to the allocator that the layout's size names; what one has handed out, with that layout,
// comes back to the same one.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { of(layout.size()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { of(layout.size()).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block comes from the same allocator: it had this layout.
        unsafe { of(layout.size()).dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if (layout.size() < LARGE) == (size < LARGE) {
            // SAFETY: the block comes from the same allocator, and its new size belongs there too.
            return unsafe { of(size).realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that `size` fits the alignment; the blocks are different ones, each at least as long as what
        // is copied; the old one goes back to where it came from.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LARGE;

    #[test]
    fn what_grows_and_shrinks_across_the_border_keeps_its_bytes() {
        let bytes = |len: usize| (0..=u8::MAX).cycle().take(len);
        let mut block: Vec<u8> = bytes(LARGE - 1).collect();
        block.reserve_exact(1);
        block.push(7);
        assert!(block[..LARGE - 1].iter().copied().eq(bytes(LARGE - 1)));
        block.truncate(100);
        block.shrink_to_fit();
        assert!(block.into_iter().eq(bytes(100)));
        assert!(vec![0_u8; 2 * LARGE].iter().all(|byte| *byte == 0));
    }
}
