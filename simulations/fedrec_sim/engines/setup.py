"""The set-up of a simulation: one algorithm under one privacy plan over one split, for runs and baselines."""

from dataclasses import dataclass
from typing import Literal

from fedrec.algorithms.base import Algorithm, ItemStart
from fedrec.algorithms.popularity import Popularity
from fedrec.data import splits
from fedrec.data.datasets import Dataset
from fedrec.data.splits import Split
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.federation.data_request import DataRequest
from fedrec.model import ReleasedModel
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.coordinator import Coordinator
from fedrec.run.scenario import EngineConfig, Scenario
from fedrec.run.setup import RunSetup, set_up_run
from fedrec.settings import Settings
from fedrec_sim.engines.in_process import InProcessFederation
from fedrec_sim.engines.leak import leaky


@dataclass(frozen=True)
class SimulationSetup(RunSetup):
    """The set-up of a run, with the users of one process."""

    federation: InProcessFederation

    @classmethod
    def build(
        cls,
        kind: type[Algorithm],
        config: Settings,
        privacy: PrivacyConfig,
        engine: EngineConfig,
        dataset: Dataset,
        split: Split,
        *,
        request: DataRequest,
        noise_seed: int | None,
        stopping: StoppingConfig | None = None,
        start: ItemStart | None = None,
    ) -> "SimulationSetup":
        """Set up a simulation and price all its queries, private looks included.

        Args:
            kind: the algorithm's class.
            config: the algorithm's settings.
            privacy: the guarantee that the run must keep.
            engine: device and sizes of batches.
            dataset: the data, with its catalogue.
            split: the split, whose training part the users have.
            request: the request for data, with the public seed.
            noise_seed: seed of the noise; None for secret noise.
            stopping: private looks between the rounds; None for none.
            start: item vectors of another run; None for the algorithm's own start.
        Raises: PrivacyError when the guarantee cannot be proven; InputError when the settings do not fit the data.
        """
        users = len(split.train)
        made = set_up_run(
            kind,
            config,
            privacy,
            split.training_catalogue(dataset.catalogue),
            users,
            request,
            noise_seed=noise_seed,
            device=engine.device,
            stopping=stopping,
            start=start,
        )
        federation = InProcessFederation(
            split.train,
            made.plan,
            seed=request.seed,
            device=engine.device,
            batch_users=engine.batch_users,
            batch_events=engine.batch_events,
            memory_bytes=engine.memory_mb << 20,
            precision=engine.precision,
        )
        return cls(made.spec, made.algorithm, made.plan, federation)

    def counterfactual(self) -> ReleasedModel:
        """Return the model of a run without a ledger. In a simulation it is only a comparison."""
        return self.algorithm.release(Coordinator(self.algorithm, self.federation, self.plan).run().shared)


def popularity(
    privacy: PrivacyConfig,
    engine: EngineConfig,
    dataset: Dataset,
    split: Split,
    *,
    request: DataRequest,
    noise_seed: int | None,
) -> ReleasedModel:
    """Return the popularity baseline under `privacy`, computed as any run is."""
    fair = privacy.model_copy(update={"evaluation_share": 0.0, "clipping": ClippingConfig()})
    parts = (Popularity, Popularity.Config(), fair, engine, dataset, split)
    built = SimulationSetup.build(*parts, request=request, noise_seed=noise_seed)
    return built.counterfactual()


def scenario_split(dataset: Dataset, scenario: Scenario, on: Literal["test", "validation"], seed: int) -> Split:
    """Return the scenario's split with the items `on` held out, and with the published leak if it is switched on."""
    found = splits.split(dataset, scenario.data.split, on, seed)
    return leaky(found) if scenario.evaluation.leaky_negatives else found
