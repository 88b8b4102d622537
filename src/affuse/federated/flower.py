"""Flower (arXiv:2007.14390) behind the two sides: messages, strategies and SecAgg+.

Everything of Flower is in this module and `affuse.federated.network`. Its telemetry is off before it is loaded.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from affuse.errors import AffuseError, ConfigError, DataError
from affuse.federated.certificates import ClientKey, verified
from affuse.federated.coordinator import Collected, refusal
from affuse.federated.participant import Participant
from affuse.federated.plan import ROBUST, Plan
from affuse.federated.telemetry import silence

silence()  # before Flower is loaded, which reads the switch of its telemetry only then

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict  # noqa: E402
from flwr.app.message.message import make_message  # noqa: E402
from flwr.app.metadata import Metadata  # noqa: E402
from flwr.client import Client  # noqa: E402
from flwr.client.mod import secaggplus_mod  # noqa: E402
from flwr.common import (  # noqa: E402
    Code,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    ReconnectIns,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto  # noqa: E402
from flwr.compat.common import recorddict_compat  # noqa: E402
from flwr.proto.recorddict_pb2 import RecordDict as RecordBytes  # noqa: E402
from flwr.server.client_manager import SimpleClientManager  # noqa: E402
from flwr.server.client_proxy import ClientProxy  # noqa: E402
from flwr.server.compat.legacy_context import LegacyContext  # noqa: E402
from flwr.server.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum  # noqa: E402
from flwr.server.workflow import SecAggPlusWorkflow  # noqa: E402
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD  # noqa: E402
from flwr.server.workflow.constant import Key as WorkflowKey  # noqa: E402
from flwr.serverapp.grid import Grid  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

silence()  # and after, since loading it sets the level of its log anew

__all__ = ["FlowerClient", "FlowerFederation", "Needs", "Pool", "local_proxy"]

_OK = Status(Code.OK, "")
_NOTHING = Parameters([], "")
_SHARES = 0.67  # of all clients who are needed to take off the masks of those who left
_TRIES = 3  # of a secure round, from which somebody may leave at a moment when it cannot go on
_HANDSHAKE = 60.0  # seconds in which a client proves its name


class FlowerClient(Client):
    """A participant as a client of Flower.

    Parameters
    ----------
    participant : Participant
        Who answers.
    key : ClientKey, optional
        Proves the participant's name to the server.
    """

    def __init__(self, participant: Participant, key: ClientKey | None = None) -> None:
        self.participant, self.key = participant, key
        self.rounds: list[int] = []
        self._context = Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Say name and facts, and sign the server's nonce."""
        nonce = bytes(ins.config["nonce"])
        told = {"name": self.participant.name, "facts": json.dumps(self.participant.facts())}
        signature = b"" if self.key is None else self.key.sign(nonce, self.participant.name)
        return GetPropertiesRes(_OK, {**told, "signature": signature})

    def fit(self, ins: FitIns) -> FitRes:
        """Answer a message, in the clear or as a step of secure aggregation."""
        if "refused" in ins.config:
            raise DataError(f"the server ended the run: {ins.config['refused']}")
        if "secure" in ins.config:
            return self._secure(bytes(ins.config["secure"]), int(ins.config["node"]))
        return self._answer(ins, hidden=False)

    def _answer(self, ins: FitIns, hidden: bool) -> FitRes:
        """The participant's answer; one that a plan says is masked goes nowhere else."""
        config = ins.config
        phase, number = str(config["phase"]), int(config["number"])
        plan = Plan.from_json(str(config["plan"]))
        if plan.secure and not hidden and phase != "finished":
            raise DataError("the server asks in the open for what its plan says is masked")
        arrays = parameters_to_ndarrays(ins.parameters)
        reply = self.participant.answer(phase, plan, number, arrays, float(config.get("temperature", 1.0)))
        self.rounds.append(number)
        weight = min(reply.weight, plan.most_rows)
        told: dict[str, Any] = {} if plan.secure else dict(reply.told)  # what is spent tells the number of rows
        return FitRes(_OK, ndarrays_to_parameters(reply.arrays), weight, told)

    def _secure(self, content: bytes, node: int) -> FitRes:
        """One step of SecAgg+; what leaves is masked, and the number of rows is part of what is masked."""
        message = _message(recorddict_from_proto(RecordBytes.FromString(content)), node)

        def answer(inner: Message, context: Context) -> Message:
            result = self._answer(recorddict_compat.recorddict_to_fitins(inner.content, keep_input=True), hidden=True)
            return Message(recorddict_compat.fitres_to_recorddict(result, keep_input=False), reply_to=inner)

        try:
            reply = secaggplus_mod(message, self._context, answer)
        except AffuseError:
            raise
        except Exception as error:  # where another client left, SecAgg+ stumbles over it; the round is made again
            return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, type(error).__name__), _NOTHING, 1, {})
        for metrics in reply.content.metric_records.values():
            for name in metrics:
                if name.startswith("num_examples"):
                    metrics[name] = 1
        return FitRes(_OK, _NOTHING, 1, {"secure": recorddict_to_proto(reply.content).SerializeToString()})


class _Local(ClientProxy):
    """A client in the same process, for simulations."""

    def __init__(self, client: FlowerClient) -> None:
        super().__init__(client.participant.name)
        self.client = client

    def get_properties(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        return self.client.get_properties(ins)

    def get_parameters(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        raise NotImplementedError

    def fit(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        return self.client.fit(ins)

    def evaluate(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        raise NotImplementedError

    def reconnect(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        return None


def local_proxy(client: FlowerClient) -> ClientProxy:
    """The server's view of a client in the same process.

    Parameters
    ----------
    client : FlowerClient

    Returns
    -------
    ClientProxy
    """
    return _Local(client)


@dataclass(frozen=True)
class Needs:
    """How many clients a run needs, and how long it waits.

    Parameters
    ----------
    clients : int
        Clients with whom it begins.
    fewest : int
        Clients without whom no round is made.
    patience : float
        Seconds for which a round waits for a client who left.
    timeout : float
        Seconds that a client has for its answer, and in which enough of them must come.
    """

    clients: int
    fewest: int
    patience: float = 5.0
    timeout: float = 600.0


class Pool(SimpleClientManager):
    """Clients who proved who they are; nobody else is sent anything but a nonce.

    Parameters
    ----------
    trusted : dict, optional
        Public keys by name; None lets everybody in who can reach the server.
    tell : callable
        Takes a line about who comes and goes.
    """

    def __init__(self, trusted: dict[str, Any] | None = None, tell: Callable[[str], None] = lambda line: None) -> None:
        super().__init__()
        self.trusted, self.tell = trusted, tell
        self.members: dict[str, ClientProxy] = {}
        self.told: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._plan: Plan | None = None
        self._closed = False

    def register(self, client: ClientProxy) -> bool:
        """Take in a connection, and ask who it is as soon as it listens."""
        client.node_id = next(self._numbers)
        if not super().register(client):
            return False
        threading.Thread(target=self._admit, args=(client,), daemon=True).start()
        return True

    def unregister(self, client: ClientProxy) -> None:
        """Forget a connection that has ended."""
        super().unregister(client)
        with self.changed:
            for name in [name for name, proxy in self.members.items() if proxy is client]:
                del self.members[name]
                if not self._closed:
                    self.tell(f"{name} left")
            self.changed.notify_all()

    def close(self) -> None:
        """Say no more of who leaves, since the run is over."""
        self._closed = True

    def settle(self, plan: Plan) -> None:
        """Hold those who come from now on to a plan.

        Parameters
        ----------
        plan : Plan
        """
        self._plan = plan

    def wait(self, count: int, seconds: float) -> dict[str, ClientProxy]:
        """Members, once there are so many or the time is over.

        Parameters
        ----------
        count : int
        seconds : float

        Returns
        -------
        dict of str to ClientProxy
        """
        with self.changed:
            self.changed.wait_for(lambda: len(self.members) >= count, seconds)
            return dict(self.members)

    def _admit(self, client: ClientProxy) -> None:
        nonce = secrets.token_bytes(32)
        try:
            answer = client.get_properties(GetPropertiesIns({"nonce": nonce}), _HANDSHAKE, 0)
            name, signature = str(answer.properties["name"]), bytes(answer.properties["signature"])
            facts = _checked_facts(json.loads(str(answer.properties["facts"])))
        except Exception as error:  # whatever a stranger sends
            self.tell(f"a connection was closed: it did not say who it is ({type(error).__name__})")
            self._send_away(client, "it did not say who it is")
            return
        reason = ""
        if self.trusted is not None and not verified(self.trusted, name, nonce, signature):
            reason = f"{name!r} did not prove its name by a key that the server knows"
        elif self._plan is not None:
            reason = refusal(self._plan, facts)
        if reason:
            self.tell(f"{name!r} was not let in: {reason}")
            self._send_away(client, reason)
            return
        with self.changed:
            if self.trusted is None and name in self.members:
                name = f"{name}-{client.node_id}"  # without proof, nobody takes another's place
            self.members[name], self.told[name] = client, facts
            self.tell(f"{name} is there")
            self.changed.notify_all()

    def _send_away(self, client: ClientProxy, reason: str) -> None:
        # The client ends at this message, so that no answer comes.
        threading.Thread(target=_quietly, args=(client, {"refused": reason}), daemon=True).start()


class FlowerFederation:
    """The clients of a pool, asked by Flower's strategies or by SecAgg+.

    Parameters
    ----------
    pool : Pool
    needs : Needs
    """

    def __init__(self, pool: Pool, needs: Needs) -> None:
        self.pool, self.needs = pool, needs

    def facts(self) -> dict[str, Any]:
        """What every client says of its data."""
        members = self.pool.wait(self.needs.clients, self.needs.timeout)
        if len(members) < self.needs.clients:
            raise AffuseError(
                f"{len(members)} of {self.needs.clients} clients came within {self.needs.timeout:g} s; "
                "start the others, or ask for fewer by --clients"
            )
        return {name: self.pool.told[name] for name in sorted(members)}

    def settle(self, plan: Plan) -> None:
        """Check that a plan can be kept with so few, and hold those who come later to it."""
        if self.needs.fewest < plan.fewest:
            what = "secure aggregation" if plan.secure else plan.strategy
            with_whom = f" against {plan.malicious}" if plan.strategy in ROBUST else ""
            reason = f"{what}{with_whom} needs {plan.fewest} clients in every round; got --fewest {self.needs.fewest}"
            self.refuse(reason)
            raise ConfigError(reason)
        self.pool.settle(plan)

    def refuse(self, reason: str) -> None:
        """End the run for all clients."""
        self.pool.close()
        self._all({"refused": reason})

    def finish(self, plan: Plan, arrays: Sequence[np.ndarray], temperature: float) -> None:
        """Give all clients what was learned, and let them go."""
        self.pool.close()
        config = {"phase": "finished", "plan": plan.to_json(), "number": plan.rounds + 2, "temperature": temperature}
        self._all(config, arrays)

    def ask(
        self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]
    ) -> Collected:
        """Ask all clients, and aggregate their answers."""
        config = {"phase": phase, "plan": plan.to_json(), "number": number}
        ins = FitIns(ndarrays_to_parameters(list(arrays)), config)
        absent: set[int] = set()
        for _ in range(_TRIES):
            members = {n: m for n, m in self._members().items() if m.node_id not in absent}
            if len(members) < self.needs.fewest:
                continue
            if plan.secure:
                found = self._summed(plan, number, ins, members, absent)
            else:
                found = self._compared(plan, phase, number, ins, members, shapes)
            if found is not None:
                return found
        raise AffuseError(f"{phase} of round {number} failed {_TRIES} times: too few clients answered")

    def _members(self) -> dict[str, ClientProxy]:
        """Those who are there: all who began, or at least the fewest who are needed."""
        members = self.pool.wait(self.needs.clients, self.needs.patience)
        if len(members) < self.needs.fewest:
            members = self.pool.wait(self.needs.fewest, self.needs.timeout)
        if len(members) < self.needs.fewest:
            raise AffuseError(
                f"{len(members)} of the {self.needs.fewest} clients that a round needs are there; "
                f"nobody came for {self.needs.timeout:g} s"
            )
        return members

    def _compared(
        self,
        plan: Plan,
        phase: str,
        number: int,
        ins: FitIns,
        members: dict[str, ClientProxy],
        shapes: Sequence[tuple[int, ...]],
    ) -> Collected | None:
        """Aggregate answers that the server sees."""
        results, told, lost = [], {}, []
        for name, answer in self._each(members, ins):
            fault = str(answer) if isinstance(answer, str) else _fault(answer, shapes, plan.most_rows)
            if fault:
                lost.append(f"{name}: {fault}")
                continue
            results.append((members[name], answer))
            told[name] = {key: float(value) for key, value in answer.metrics.items()}
        if len(results) < self.needs.fewest:
            return None
        if not any(answer.num_examples for _, answer in results):
            return Collected(None, told, tuple(lost))
        weighing = _strategy(plan, phase, len(results))
        parameters, _ = weighing.aggregate_fit(number, results, [])
        return Collected(parameters_to_ndarrays(parameters), told, tuple(lost))

    def _summed(
        self, plan: Plan, number: int, ins: FitIns, members: dict[str, ClientProxy], absent: set[int]
    ) -> Collected | None:
        """Aggregate answers of which the server sees nothing but the sum.

        None where somebody left before the keys were shared, which SecAgg+ of Flower does not get over; then the round
        is made again without those in ``absent``.
        """
        chosen = _Chosen([(proxy, ins) for proxy in members.values()])
        state = RecordDict()
        state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: number})
        state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(ins.parameters, True)
        context = Context(run_id=0, node_id=0, node_config={}, state=state, run_config={})
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 0  # messages ask who sends them
        grid = _Wire({proxy.node_id: proxy for proxy in members.values()}, self.needs.timeout)
        workflow = SecAggPlusWorkflow(1.0, _SHARES, max_weight=float(plan.most_rows), timeout=self.needs.timeout)
        try:
            workflow(grid, LegacyContext(context, strategy=chosen, client_manager=self.pool))
        except ZeroDivisionError:  # no client has any row that this is about
            return Collected(None, {name: {} for name in members})
        if chosen.found is None:
            absent |= grid.lost
            return None
        answered = {proxy.node_id: metrics for proxy, metrics in chosen.answered}
        told = {name: answered[proxy.node_id] for name, proxy in members.items() if proxy.node_id in answered}
        lost = tuple(f"{name}: left" for name in members if name not in told)
        return Collected(chosen.found, told, lost)

    def _each(self, members: dict[str, ClientProxy], ins: FitIns) -> list[tuple[str, Any]]:
        """Answers by name; a word instead of the answer of those who gave none."""

        def one(proxy: ClientProxy) -> Any:
            try:
                return proxy.fit(ins, self.needs.timeout, 0)
            except AffuseError as error:
                return str(error)
            except Exception as error:  # Flower and gRPC have many names for a connection that has ended
                return f"left ({type(error).__name__})"

        with ThreadPoolExecutor(max_workers=max(1, len(members))) as threads:
            return list(zip(members, threads.map(one, members.values()), strict=True))

    def _all(self, config: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
        """Send all a last message, and let them go."""
        parameters = ndarrays_to_parameters(list(arrays)) if len(arrays) else _NOTHING
        members = list(self.pool.members.values())
        last = [threading.Thread(target=_quietly, args=(m, config, parameters), daemon=True) for m in members]
        for thread in last:
            thread.start()
        end = time.monotonic() + 30
        for thread in last:
            thread.join(max(0.0, end - time.monotonic()))


class _Chosen(FedAvg):
    """A strategy that asks whom it is told to ask, and keeps what the workflow gives it."""

    def __init__(self, asked: list[tuple[ClientProxy, FitIns]]) -> None:
        super().__init__()
        self.asked = asked
        self.found: list[np.ndarray] | None = None
        self.answered: list[tuple[ClientProxy, dict[str, float]]] = []

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """All who are asked."""
        return self.asked

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Keep the sum, which the workflow puts in the place of every answer."""
        self.found = parameters_to_ndarrays(results[0][1].parameters)
        self.answered = [(proxy, {k: float(v) for k, v in res.metrics.items()}) for proxy, res in results]
        return results[0][1].parameters, {}


class _Wire(Grid):
    """Messages of a workflow, carried in messages to clients."""

    def __init__(self, proxies: dict[int, ClientProxy], timeout: float) -> None:
        self.proxies, self.timeout = proxies, timeout
        self.lost: set[int] = set()

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.proxies)

    def push_messages(self, messages: Any) -> Any:
        raise NotImplementedError

    def pull_messages(self, message_ids: Any) -> Any:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        sent = [message for message in messages if message.metadata.dst_node_id in self.proxies]
        with ThreadPoolExecutor(max_workers=max(1, len(sent))) as threads:
            replies = list(threads.map(self._one, sent))
        # Those who are lost first: the others may stumble over it later, and are there for the next try.
        self.lost = self.lost or {reply.metadata.src_node_id for reply in replies if reply.has_error()}
        return replies

    def _one(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        content = recorddict_to_proto(message.content).SerializeToString()
        try:
            answer = self.proxies[node].fit(FitIns(_NOTHING, {"secure": content, "node": node}), self.timeout, 0)
            record = recorddict_from_proto(RecordBytes.FromString(bytes(answer.metrics["secure"])))
        except Exception as error:  # a client that left, or one that does not speak the protocol
            return _replied(message, Error(code=0, reason=type(error).__name__))
        return _replied(message, record)


def _replied(message: Message, content: Any) -> Message:
    """A reply by the node that a message went to."""
    return Message(content, reply_to=_message(message.content, message.metadata.dst_node_id))


def _message(content: RecordDict, node: int) -> Message:
    """A message of the server to a node."""
    metadata = Metadata(
        run_id=0,
        message_id="affuse",
        src_node_id=0,
        dst_node_id=node,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=86400.0,
        message_type="train",
    )
    return make_message(metadata=metadata, content=content)


def _strategy(plan: Plan, phase: str, n: int) -> Any:
    """The strategy of a phase; what is no network is weighed by the median where clients are not trusted."""
    f = plan.malicious
    if plan.strategy not in ROBUST:
        return FedAvg()  # FedProx differs in what the clients do
    if phase != "train" or plan.strategy == "median":
        return FedMedian()
    if plan.strategy == "trimmed-mean":
        return FedTrimmedAvg(beta=(f + 1e-9) / n)
    if plan.strategy == "bulyan":
        return Bulyan(num_malicious_clients=f, to_keep=0)
    keep = 0 if plan.strategy == "krum" else max(1, n - f)
    return Krum(num_malicious_clients=f, num_clients_to_keep=keep)


def _fault(answer: FitRes, shapes: Sequence[tuple[int, ...]], most_rows: int) -> str:
    """Why an answer is of no use; empty where it is."""
    try:
        arrays = parameters_to_ndarrays(answer.parameters)
    except Exception as error:  # whatever bytes a client sends
        return f"sent no arrays ({type(error).__name__})"
    if [a.shape for a in arrays] != list(shapes) or any(a.dtype.kind != "f" for a in arrays):
        return "sent arrays of other shapes"
    if not all(np.isfinite(a).all() for a in arrays):
        return "sent numbers that are not finite"
    return "" if 0 <= answer.num_examples <= most_rows else f"counts with more than {most_rows} rows"


def _checked_facts(facts: Any) -> dict[str, Any]:
    names = {what: facts[what] for what in ("labels", "columns", "modalities")}
    if not all(isinstance(v, list) and all(isinstance(name, str) for name in v) for v in names.values()):
        raise DataError("its facts are not names")
    return {**names, "kind": str(facts["kind"]), "encoder": str(facts["encoder"])}


def _quietly(client: ClientProxy, config: dict[str, Any], parameters: Parameters = _NOTHING) -> None:
    """A last message; the client may be gone before it answers."""
    try:
        client.fit(FitIns(parameters, config), 20.0, 0)
        client.reconnect(ReconnectIns(seconds=None), 20.0, 0)
    except Exception:  # the connection has ended, as it was meant to
        return
