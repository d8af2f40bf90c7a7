"""Stored answers before a generator, for callers who ask for them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from meshwright_common.clock import Clock
from meshwright_common.context import principal
from meshwright_common.errors import Cancelled, DeadlineExceeded, ServiceError
from meshwright_model_router.domain.caching.flights import Flights
from meshwright_model_router.domain.caching.naming import (
    question_of,
    request_content,
    scope_content,
)
from meshwright_model_router.domain.caching.ports import (
    Admission,
    AnswerStore,
    CacheLog,
    QuestionVectors,
)
from meshwright_model_router.domain.caching.stored_answer import StoredAnswer, stored_answer
from meshwright_model_router.domain.call import CacheUse, Generator, ModelCall
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finished,
    GenerationOutput,
    Started,
    TokenUsage,
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A call, and under what its answer is found. `scope` "": only the very same call will do."""

    call: ModelCall
    use: CacheUse
    tenant_id: str
    user_id: str
    name: str
    scope: str
    question: str


class CachedGeneration:
    """Answers calls that opted in from `store`, and all others by `inner`, without a detour.

    `store` None: switched off, which callers who ask for it are told by BYPASS.
    """

    def __init__(
        self,
        inner: Generator,
        store: AnswerStore | None,
        admission: Admission,
        vectors: QuestionVectors,
        log: CacheLog,
        flights: Flights,
        clock: Clock,
    ) -> None:
        self._inner = inner
        self._store = store
        self._admission = admission
        self._vectors = vectors
        self._log = log
        self._flights = flights
        self._clock = clock

    def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Generate as `inner` does, or tell a stored answer, which consumes nothing.

        Started says which. While the store is away calls go on without it.
        """
        if call.cache is None:
            return self._inner.generate(call)
        if self._store is None:
            return self._labelled(call, CacheStatus.BYPASS)
        return self._cached(call, call.cache, self._store)

    async def _cached(
        self, call: ModelCall, use: CacheUse, store: AnswerStore
    ) -> AsyncGenerator[GenerationOutput, None]:
        # First, as without a cache: who may not use the model is told no stored answer either.
        standing = await self._admission.admit(call)
        try:
            wanted = await self._wanted(call, use, standing, store)
        except ServiceError:
            source = self._labelled(call, CacheStatus.BYPASS)
        else:
            source = self._fresh(wanted, store) if use.refresh else self._shared(wanted, store)
        async with aclosing(source) as outputs:
            async for output in outputs:
                if isinstance(output, Started):
                    self._log.told(call, output)
                yield output

    async def _wanted(
        self, call: ModelCall, use: CacheUse, standing: str, store: AnswerStore
    ) -> _Wanted:
        caller = principal()
        question = question_of(call) if use.semantic else ""
        contents = [request_content(call, use, caller, standing)]
        if question:
            contents.append(scope_content(call, use, caller, f"{standing}|{self._vectors.model}"))
        names = await store.names(caller.tenant_id, contents)
        return _Wanted(
            call=call,
            use=use,
            tenant_id=caller.tenant_id,
            user_id=caller.subject if caller.kind == "user" else "",
            name=names[0],
            scope=names[1] if question else "",
            question=question,
        )

    async def _shared(
        self, wanted: _Wanted, store: AnswerStore
    ) -> AsyncGenerator[GenerationOutput, None]:
        """Yield the answer, together with all others who ask for it at this time."""
        use = wanted.use
        near = (use.min_similarity, wanted.scope)
        key = (wanted.tenant_id, wanted.name, near, use.no_store, wanted.call.accepts_restart)
        told = False
        for alone in (False, True):
            flight, mine = self._flights.join(
                (*key, object()) if alone else key, lambda: self._looked_up(wanted, store)
            )
            try:
                async with aclosing(flight.follow()) as outputs:
                    async for output in outputs:
                        told = True
                        yield output if mine else _as_hit(output)
                return
            except (DeadlineExceeded, Cancelled):
                # It was the time of whoever came first that was over; ours may not be.
                if mine or told:
                    raise

    async def _looked_up(
        self, wanted: _Wanted, store: AnswerStore
    ) -> AsyncGenerator[GenerationOutput, None]:
        """Yield a stored answer, or a new one."""
        vector: Sequence[float] | None = None
        status = CacheStatus.HIT
        try:
            answer = await store.find(wanted.tenant_id, wanted.name)
            if answer is None and wanted.scope:
                vector = await self._vectors.vector(wanted.call, wanted.question)
                status = CacheStatus.SEMANTIC_HIT
                answer = await store.find_near(
                    wanted.tenant_id, wanted.scope, vector, wanted.use.min_similarity
                )
        except ServiceError:
            source = self._labelled(wanted.call, CacheStatus.BYPASS)
        else:
            if answer is not None:
                for output in answer.outputs(status, self._now()):
                    yield output
                return
            source = self._fresh(wanted, store, vector)
        async with aclosing(source) as outputs:
            async for output in outputs:
                yield output

    async def _fresh(
        self, wanted: _Wanted, store: AnswerStore, vector: Sequence[float] | None = None
    ) -> AsyncGenerator[GenerationOutput, None]:
        """Yield a new answer; keep it once it has been told."""
        outputs: list[GenerationOutput] = []
        async with aclosing(self._labelled(wanted.call, CacheStatus.MISS)) as source:
            async for output in source:
                outputs.append(output)
                yield output
        if wanted.use.no_store:
            return
        answer = stored_answer(outputs, self._now())
        if answer is not None:
            await self._keep(wanted, store, answer, vector)

    async def _keep(
        self,
        wanted: _Wanted,
        store: AnswerStore,
        answer: StoredAnswer,
        vector: Sequence[float] | None,
    ) -> None:
        owner, seconds = (wanted.tenant_id, wanted.user_id), wanted.use.seconds
        try:
            await store.keep(*owner, wanted.name, answer, seconds)
            if wanted.scope:
                if vector is None:
                    vector = await self._vectors.vector(wanted.call, wanted.question)
                await store.keep_near(*owner, wanted.scope, vector, wanted.name, seconds)
        except ServiceError:
            # The next caller pays once more; this one has its answer.
            return

    async def _labelled(
        self, call: ModelCall, status: CacheStatus
    ) -> AsyncGenerator[GenerationOutput, None]:
        async with aclosing(self._inner.generate(call)) as outputs:
            async for output in outputs:
                if isinstance(output, Started):
                    yield replace(output, cache_status=status)
                else:
                    yield output

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _as_hit(output: GenerationOutput) -> GenerationOutput:
    """Return an output of somebody else's call as one that joined it sees it."""
    if isinstance(output, Started) and output.cache_status in (
        CacheStatus.MISS,
        CacheStatus.BYPASS,
    ):
        return replace(output, cache_status=CacheStatus.HIT, cache_age_seconds=0.0)
    if isinstance(output, Finished):
        return replace(output, usage=TokenUsage())
    return output
