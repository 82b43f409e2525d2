//! Keeping what a child writes to its heap in few pages.
//!
//! A child shares the launcher's pages until one of the two writes to them. The allocator hands out the gaps that the
//! launcher's start-up left all over its heap, so that some ten small allocations would cost a child ten pages. Once the
//! gaps are filled, what children allocate lies side by side in memory that nobody has touched.

use std::hint::black_box;
use std::mem::forget;

/// No gap is as large: it comes from the heap's end, and is smaller than what the allocator maps by itself.
const LARGE: usize = 96 * 1024;
/// From here on gaps are looked for in the allocator's own steps.
const SMALL: usize = 1024;
/// Its smallest step.
const STEP: usize = 16;
/// Enough for any heap that a start-up leaves.
const MOST: usize = 16 * 1024;

/// Fills every gap in the heap for good. Costs what the gaps hold, which is resident anyway.
pub fn fill_gaps() {
    // From the heap's end: what is allocated above it afterwards fills no gap.
    let end = Vec::<u8>::with_capacity(LARGE);
    let limit = black_box(end.as_ptr()).addr();
    let large = [64, 32, 16, 8, 4, 2].into_iter().map(|factor| factor * SMALL);
    let small = (1..=SMALL / STEP).rev().map(|steps| steps * STEP);
    for size in large.chain(small) {
        for _ in 0..MOST {
            let filler = Vec::<u8>::with_capacity(size);
            if black_box(filler.as_ptr()).addr() >= limit {
                break;
            }
            forget(filler);
        }
    }
}
