//! Sorting with the permutation of equal elements that GNU's C++ library gives.
//!
//! Which of two equally likely tokens stands first decides which one a draw hits, so "the same seed gives the same text"
//! includes the order of ties. `llama-server` is built on `std::sort` and `std::partial_sort`, neither of which is
//! stable; libstdc++ makes them an introspective sort (median of three, runs of at most 16 left to a final insertion
//! sort, heap sort below a depth limit) and a heap selection. The same comparisons and moves are done here. Both are
//! safe for an inconsistent `before` (a NaN): the result is then some permutation.

/// Runs up to this length are left to the insertion sort.
const SHORT: usize = 16;

/// Sorts so that `before(a, b)` puts `a` in front.
pub(super) fn sort<T: Copy>(items: &mut [T], before: impl Fn(&T, &T) -> bool) {
    if let Some(log) = items.len().checked_ilog2() {
        quick_sort(items, 2 * log, &before);
        insertion_sort(items, &before);
    }
}

/// Brings the first `count` elements of the sorted order to the front, sorted; the order of the rest is unspecified but
/// determined.
pub(super) fn partial_sort<T: Copy>(items: &mut [T], count: usize, before: impl Fn(&T, &T) -> bool) {
    partial_sort_by(items, count.min(items.len()), &before);
}

fn partial_sort_by<T: Copy, F: Fn(&T, &T) -> bool>(items: &mut [T], count: usize, before: &F) {
    if count == 0 {
        return;
    }
    // A heap of the best so far with the worst of them on top.
    for root in (0..count / 2).rev() {
        let value = items[root];
        sift(&mut items[..count], root, value, before);
    }
    for next in count..items.len() {
        if before(&items[next], &items[0]) {
            let value = items[next];
            items[next] = items[0];
            sift(&mut items[..count], 0, value, before);
        }
    }
    for end in (1..count).rev() {
        let value = items[end];
        items[end] = items[0];
        sift(&mut items[..end], 0, value, before);
    }
}

/// Fills the hole at `root`: the hole sinks to a leaf along the later children, then `value` rises from there.
fn sift<T: Copy>(heap: &mut [T], root: usize, value: T, before: &impl Fn(&T, &T) -> bool) {
    let mut hole = root;
    loop {
        let right = 2 * hole + 2;
        let child = if right < heap.len() {
            if before(&heap[right], &heap[right - 1]) { right - 1 } else { right }
        } else if right == heap.len() {
            right - 1
        } else {
            break;
        };
        heap[hole] = heap[child];
        hole = child;
    }
    while hole > root {
        let parent = (hole - 1) / 2;
        if !before(&heap[parent], &value) {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    heap[hole] = value;
}

fn quick_sort<T: Copy, F: Fn(&T, &T) -> bool>(mut items: &mut [T], mut depth: u32, before: &F) {
    while items.len() > SHORT {
        if depth == 0 {
            let count = items.len();
            partial_sort_by(items, count, before);
            return;
        }
        depth -= 1;
        let cut = partition(items, before);
        let (front, back) = items.split_at_mut(cut);
        quick_sort(back, depth, before);
        items = front;
    }
}

/// Puts the median of the second, middle and last element first and parts the others around it.
fn partition<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) -> usize {
    let (second, middle, last) = (1, items.len() / 2, items.len() - 1);
    let ahead = |a: usize, b: usize| before(&items[a], &items[b]);
    let median = if ahead(second, middle) {
        if ahead(middle, last) {
            middle
        } else if ahead(second, last) {
            last
        } else {
            second
        }
    } else if ahead(second, last) {
        second
    } else if ahead(middle, last) {
        last
    } else {
        middle
    };
    items.swap(0, median);
    let pivot = items[0];
    let (mut low, mut high) = (1, items.len());
    loop {
        while low < items.len() && before(&items[low], &pivot) {
            low += 1;
        }
        high -= 1;
        while high > 0 && before(&pivot, &items[high]) {
            high -= 1;
        }
        if low >= high {
            // At least one element on either side, whatever `before` claims.
            return low.clamp(1, items.len() - 1);
        }
        items.swap(low, high);
        low += 1;
    }
}

fn insertion_sort<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) {
    for next in 1..items.len() {
        let value = items[next];
        let mut hole = next;
        while hole > 0 && before(&value, &items[hole - 1]) {
            items[hole] = items[hole - 1];
            hole -= 1;
        }
        items[hole] = value;
    }
}
