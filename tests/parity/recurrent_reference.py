"""DARTS' recurrent search cell written out: one product per edge, term and time."""

import jax
import jax.numpy as jnp

from jnas.mixture import effective_weights
from jnas.supernet import SequenceOutputs

FUNCTIONS = {
    "none": lambda x: 0 * x,
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + jnp.exp(-x)),
    "identity": lambda x: x,
}


def plain(net):
    """The same supernet without stacking, masking of times, scan, or dropout."""
    (group,) = net.space.groups

    def apply(weights, model_state, mixture, inputs, *, train, masks=None, **_):
        rows = effective_weights(mixture, net.space, net.cells)[group.name][0]
        tokens = inputs["tokens"]
        masks = masks or {}
        ones = jnp.ones((tokens.shape[0], weights["embedding"].shape[1]))
        x_mask, h_mask = masks.get("inputs", ones), masks.get("hidden", ones)
        h, outputs = model_state["carry"], []
        width = h.shape[1]
        mean, var = (
            model_state["batch_stats"]["mean"],
            model_state["batch_stats"]["var"],
        )

        def norm(y, mean, var):
            if not train:
                return (y - mean[None]) / jnp.sqrt(var + 1e-5)[None], mean, var
            batch_mean = y.mean(0)
            batch_var = ((y - batch_mean[None]) ** 2).mean(0)
            z = (y - batch_mean[None]) / jnp.sqrt(batch_var + 1e-5)[None]
            unbiased = batch_var * len(y) / (len(y) - 1)
            return z, 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * unbiased

        for t in range(tokens.shape[1]):
            x = jnp.stack([weights["embedding"][token] for token in tokens[:, t]])
            both = jnp.concatenate([x * x_mask, h * h_mask], 1) @ weights["cell"]["w0"]
            gate = 1 / (1 + jnp.exp(-both[:, :width]))
            s, mean, var = norm(h + gate * (jnp.tanh(both[:, width:]) - h), mean, var)
            states = [s]
            for node in group.nodes:
                total = jnp.zeros_like(s)
                for row in group.incoming(node):
                    state = states[group.edges[row][0]]
                    both = (state * h_mask) @ weights["cell"]["w"][node - 1]
                    gate = 1 / (1 + jnp.exp(-both[:, :width]))
                    for column, name in enumerate(group.operations):
                        if name != "none":
                            value = FUNCTIONS[name](both[:, width:])
                            total += rows[row, column] * (
                                state + gate * (value - state)
                            )
                s, mean, var = norm(total, mean, var)
                states.append(s)
            h = sum(states[i] for i in group.concat) / len(group.concat)
            outputs.append(h)
        hiddens = jnp.stack(outputs, 1)
        logits = hiddens @ weights["embedding"].T + weights["bias"][None, None]
        stats = jax.tree.map(jax.lax.stop_gradient, {"mean": mean, "var": var})
        return SequenceOutputs(logits, hiddens, hiddens), {
            "carry": h,
            "batch_stats": stats,
        }

    return net._replace(apply=apply)
