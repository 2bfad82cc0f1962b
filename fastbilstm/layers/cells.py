"""Cells, the layers inside RNN and StackedRNNCells: what LSTM, GRU and SimpleRNN compute in one timestep.

The specification, in NumPy. A cell has options, weights and a step. The loop over time is in timesteps.py.
Imports NumPy; knows nothing of files or kernels.
"""

from .base import BaseLayer, Option, activation, boolean, integer, register
from .timesteps import gru_gates, gru_step, lstm_gates, lstm_step, simple_rnn_step


class Cell(BaseLayer):
    """What all cells have in common.

    Attributes
    ----------
    n_gates, n_states : int
        How many gates the kernels hold side by side; how many state arrays there are.
    output_state : int
        The number of the state that is the output.
    gate_names : str
        The gates of `gates`, in the order of the file.
    """

    ignored = (
        *("dropout", "recurrent_dropout", "implementation", "unit_forget_bias", "seed", "use_cudnn", "input_dim"),
        "enable_caching_device",
    )
    n_gates = n_states = 1
    output_state = 0
    gate_names = ""
    n_inputs = None

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        for name in ("activation", "recurrent_activation"):
            if config.get(name) == "glu":
                yield name, "glu", f"halves the number of units, which {cls.__name__} cannot use"

    def weight_shapes(self, shapes):
        features, width = shapes[0][-1] if shapes else None, self.n_gates * self.units
        roles = {"kernel": (features, width), "recurrent_kernel": (self.units, width)}
        if self.use_bias:
            roles["bias"] = self.bias_shape
        return roles

    @property
    def bias_shape(self):
        return (self.n_gates * self.units,)

    @property
    def state_sizes(self):
        """Units of each state."""
        return (self.units,) * self.n_states

    def step(self, x, states):
        """One timestep: x (B, F), tuple of states -> tuple of states; `output_state` says which is the output."""
        raise NotImplementedError

    def gates(self, x, states):
        """{name of Keras: (B, U)} of the gates of a timestep, after their activations."""
        return {}

    def arrays(self):
        return (self.weights.get(role) for role in ("kernel", "recurrent_kernel", "bias"))

    def infer(self, inputs, kwargs):
        """A cell is no layer of a graph: an RNN runs it, and calls `step`."""
        self.fail("a cell is called here; only the layer RNN can run it")


@register
class LSTMCell(Cell):
    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, "tanh"),
        "recurrent_activation": Option(activation, "sigmoid"),
        "use_bias": Option(boolean, True),
    }
    n_gates, n_states = 4, 2
    gate_names = "ifco"

    def functions(self):
        return self.activation_function("activation"), self.activation_function("recurrent_activation")

    def step(self, x, states):
        return lstm_step(x, states, *self.arrays(), *self.functions())

    def gates(self, x, states):
        return dict(zip(self.gate_names, lstm_gates(x, states, *self.arrays(), *self.functions())))


@register
class GRUCell(Cell):
    options = {**LSTMCell.options, "reset_after": Option(boolean, True)}
    n_gates = 3
    gate_names = "zrh"

    @property
    def bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def functions(self):
        return self.activation_function("activation"), self.activation_function("recurrent_activation")

    def step(self, x, states):
        return gru_step(x, states, *self.arrays(), *self.functions(), self.reset_after)

    def gates(self, x, states):
        return dict(zip(self.gate_names, gru_gates(x, states, *self.arrays(), *self.functions(), self.reset_after)))


@register
class SimpleRNNCell(Cell):
    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, "tanh"),
        "use_bias": Option(boolean, True),
    }

    def step(self, x, states):
        return simple_rnn_step(x, states, *self.arrays(), self.activation_function())


@register
class StackedRNNCells(Cell):
    """Several cells in each timestep: each one reads the output of the one before.

    One tuple holds the states of all cells, in the order of the cells; an LSTM cell has two, h and c. The output is
    that of the last cell.
    """

    @classmethod
    def check_config(cls, config, version):
        return ()

    def weight_shapes(self, shapes):
        return {}

    @property
    def units(self):
        return self.inner[-1].units

    @property
    def n_states(self):
        return sum(cell.n_states for cell in self.inner)

    @property
    def state_sizes(self):
        return tuple(size for cell in self.inner for size in cell.state_sizes)

    @property
    def output_state(self):
        return self.n_states - self.inner[-1].n_states + self.inner[-1].output_state

    def step(self, x, states):
        result = ()
        for cell in self.inner:
            own, states = states[: cell.n_states], states[cell.n_states :]
            new = cell.step(x, own)
            x = new[cell.output_state]
            result += new
        return result


def check_cell(cell, features, owner):
    """Refuse a cell, or StackedRNNCells, if the weights do not fit inputs of `features` features."""
    if not isinstance(cell, Cell) or type(cell).__name__ not in CELLS:
        owner.fail(f"{cell.class_name!r} is no cell")
    if isinstance(cell, StackedRNNCells):
        for part in cell.inner:
            check_cell(part, features, cell)
            features = part.units
    else:
        cell.check_sizes([(None, features)])


CELLS = ("LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells")
