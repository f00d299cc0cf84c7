//! Fusion: neighbouring operations that one dispatch can do become one, where nothing else reads what lies between them.
//!
//! | recorded | dispatched |
//! | --- | --- |
//! | norm, linear | linear that norms its rows |
//! | linear (gate, up), gate | linear that gates |
//! | linear, add | linear that adds to the residual |
//! | norm, add | norm that adds to the residual |
//! | norm_heads (q, k), rope (q, k), store_kv | one `heads` |
//!
//! A decode step of `llama` so takes 6 dispatches a layer, one of `gemma3` with its four norms 8.

use crate::buffer::Operand;
use crate::linear::{Epilogue, can_gate};
use crate::ops::Op;
use crate::ops::heads::{Heads, Part};
use crate::ops::map::Function;

/// Fuses a pass of which `read` is read back.
pub(crate) fn fuse(ops: &[Op], read: Option<&Operand>) -> Vec<Op> {
    let mut fused = Vec::with_capacity(ops.len());
    let mut rest = ops;
    while let Some((first, mut after)) = rest.split_first() {
        if let Some((heads, count)) = join_heads(rest, read) {
            fused.push(heads);
            rest = &rest[count..];
            continue;
        }
        let mut op = first.clone();
        while let Some((next, beyond)) = after.split_first() {
            let dead = |tensor: &Operand| is_dead(tensor, beyond, read);
            let Some(both) = join(&op, next, dead) else { break };
            op = both;
            after = beyond;
        }
        fused.push(op);
        rest = after;
    }
    fused
}

/// Whether nothing reads what the tensor holds after its last use here.
fn is_dead(tensor: &Operand, after: &[Op], read: Option<&Operand>) -> bool {
    for op in after {
        if op.reads(tensor) {
            return false;
        }
        if op.replaces(tensor) {
            return true;
        }
    }
    !read.is_some_and(|read| read.is(tensor))
}

/// Two operations as one; `dead` tells whether a tensor is not read after them.
fn join(first: &Op, second: &Op, dead: impl Fn(&Operand) -> bool) -> Option<Op> {
    match (first, second) {
        (Op::Norm(norm), Op::Linear(linear))
            if !norm.add && linear.x.is(&norm.out) && linear.norm.is_none() && dead(&norm.out) =>
        {
            let mut linear = linear.clone();
            linear.x = norm.x.clone();
            linear.norm = Some((norm.weight.weight.clone(), norm.eps));
            let in_place = linear.projections.iter().any(|(_, _, out)| out.is(&linear.x));
            (!in_place).then_some(Op::Linear(linear))
        }
        (Op::Linear(linear), Op::Map(map)) if linear.epilogue == Epilogue::Store => {
            let y = map.y.as_ref()?;
            let mut linear = linear.clone();
            match (map.function, &linear.projections[..]) {
                (Function::Gate(activation), [(gate_weight, _, gate), (up_weight, _, up)])
                    if gate.is(&map.x)
                        && up.is(y)
                        && !gate.is(up)
                        && dead(up)
                        && can_gate(gate_weight, up_weight) =>
                {
                    linear.epilogue = activation.into();
                }
                (Function::Add, [(_, _, out)]) if out.is(y) && !out.is(&map.x) && dead(out) => {
                    linear.epilogue = Epilogue::Add;
                }
                _ => return None,
            }
            let in_place = linear.x.is(&map.x);
            linear.into = Some(map.x.clone());
            (!in_place).then_some(Op::Linear(linear))
        }
        (Op::Norm(norm), Op::Map(map))
            if map.function == Function::Add
                && !norm.add
                && map.y.as_ref().is_some_and(|y| y.is(&norm.out))
                && !map.x.is(&norm.out)
                && !map.x.is(&norm.x)
                && dead(&norm.out) =>
        {
            let mut norm = norm.clone();
            norm.out = map.x.clone();
            norm.add = true;
            Some(Op::Norm(norm))
        }
        _ => None,
    }
}

/// Work on heads, in the order in which the kernel does it: norms, rotations of queries and keys, the store. Gives how many
/// operations it stands for.
fn join_heads(ops: &[Op], read: Option<&Operand>) -> Option<(Op, usize)> {
    let run: Vec<&Heads> =
        ops.iter().map_while(|op| if let Op::Heads(heads) = op { Some(&**heads) } else { None }).collect();
    let norms = run.iter().take_while(|heads| heads.store.is_none() && heads.rope.is_none()).count();
    let [first, second, store] = run.get(norms..norms + 3)? else { return None };
    let mut joined =
        Heads { store: Some(store.store.clone()?), v: Some(store.v.clone()?), ..(*first).clone() };
    let (q, k) = (single(first)?, single(second)?);
    let same = first.rope.is_some() && first.rope == second.rope && first.head_dim == second.head_dim;
    let stored = store.k.as_ref().is_some_and(|stored| stored.x.is(&k.x));
    let apart = !q.x.is(&k.x) && !store.v.as_ref().is_some_and(|v| v.is(&q.x) || v.is(&k.x));
    if !same || !stored || !apart || !is_dead(&k.x, &ops[norms + 3..], read) {
        return None;
    }
    let (mut q, mut k) = (q.clone(), k.clone());
    for norm in &run[..norms] {
        let part = single(norm)?;
        let known = [&mut q, &mut k].into_iter().find(|known| known.x.is(&part.x) && known.norm.is_none())?;
        known.norm.clone_from(&part.norm);
        if norm.head_dim != joined.head_dim || norm.eps != run[0].eps {
            return None;
        }
        joined.eps = norm.eps;
    }
    joined.q = Some(q);
    joined.k = Some(k);
    Some((Op::Heads(Box::new(joined)), norms + 3))
}

/// The tensor of an operation on one alone.
fn single(heads: &Heads) -> Option<&Part> {
    heads.q.as_ref().filter(|_| heads.k.is_none() && heads.store.is_none())
}
