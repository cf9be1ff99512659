#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its contract; this one passes everything to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

/// Smaller blocks are left as they are: secrets of that size are values of our own, which are zeroed by their types.
const SMALLEST: usize = 256;

/// An allocator that zeroes what is freed.
///
/// A key is zeroed where we hold it, but on its way to a caller it passes buffers that are not ours (of the gRPC and HTTP/2 libraries), and these are
/// freed as they are: long after an identity was taken back its key would still lie in free memory. A daemon that hands out keys makes this its
/// allocator; a library that did would do it to every program that uses it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiping;

// SAFETY: every block comes from the system's allocator and goes back to it with the layout that it came with. Before that it is written to, as long
// as it is still the caller's to give back.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller keeps the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= SMALLEST {
            // SAFETY: the block has this size and nobody else uses it any more.
            unsafe { block.write_bytes(0, layout.size()) };
            // What is freed at once needs not be written, a compiler would think.
            black_box(block);
        }
        // SAFETY: our caller keeps the same contract.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() < SMALLEST {
            // SAFETY: our caller keeps the same contract.
            return unsafe { System.realloc(block, layout, size) };
        }
        // The system's may move the block and leave a copy behind.
        // SAFETY: the size is not zero and does not overflow, by our caller's contract; the alignment is that of a valid layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: a valid layout of a size that is not zero.
        let moved = unsafe { System.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least as long as what is copied, and the new one is nobody else's.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the block has this layout, and its caller has the new one instead.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_content_when_it_grows_and_shrinks() {
        for sizes in [[16, 64, 512], [300, 5_000, 400], [512, 100, 70_000]] {
            let mut layout = Layout::from_size_align(sizes[0], 16).unwrap();
            // SAFETY: the layouts are those that the blocks came with, and only what was allocated is touched.
            unsafe {
                let mut block = Wiping.alloc(layout);
                for at in 0..sizes[0] {
                    block.add(at).write(u8::try_from(at % 251).unwrap());
                }
                let mut whole = sizes[0];
                for size in &sizes[1..] {
                    block = Wiping.realloc(block, layout, *size);
                    layout = Layout::from_size_align(*size, 16).unwrap();
                    whole = whole.min(*size);
                    assert!((0..whole).all(|at| block.add(at).read() == u8::try_from(at % 251).unwrap()));
                }
                Wiping.dealloc(block, layout);
            }
        }
    }
}
