"""Where every file of a profile lies. The Snakefile and the commands use the same names from here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paths:
    """File names of one profile, relative to the repository root. Wildcards of Snakemake may be passed as they are."""

    profile: str

    @property
    def data(self) -> str:
        return f"data/{self.profile}"

    @property
    def results(self) -> str:
        return f"results/{self.profile}"

    @property
    def raw(self) -> str:
        return f"{self.data}/raw"

    @property
    def key(self) -> str:
        """The secret with which ids in results are hashed."""
        return f"{self.data}/key"

    def truth(self, file: str) -> str:
        return f"{self.data}/truth/{file}"

    @property
    def reports(self) -> str:
        return f"{self.data}/index/mimic_cxr_reports.parquet"

    @property
    def tokens(self) -> str:
        return f"{self.data}/text/tokens.parquet"

    @property
    def tokenizer(self) -> str:
        return f"{self.data}/text/tokenizer.json"

    @property
    def tokenizer_config(self) -> str:
        return f"{self.data}/text/tokenizer_config.json"

    @property
    def shape_weights(self) -> str:
        return f"{self.data}/weights/shapes.safetensors"

    def index(self, source: str) -> str:
        return f"{self.data}/index/{source}.parquet"

    def unmatched(self, source: str) -> str:
        return f"{self.data}/index/{source}.unmatched.parquet"

    def store(self, source: str) -> str:
        return f"{self.data}/images/{source}.npy"

    def store_table(self, source: str) -> str:
        return f"{self.data}/images/{source}.parquet"

    def split(self, source: str, scheme: str) -> str:
        return f"{self.data}/splits/{source}/{scheme}.parquet"

    def ranks(self, source: str, scheme: str, seed: int | str) -> str:
        return f"{self.data}/splits/{source}/{scheme}-seed{seed}.parquet"

    @property
    def audit(self) -> str:
        return f"{self.results}/audit/audit.json"

    @property
    def audit_runs(self) -> str:
        return f"{self.results}/audit/runs.json"

    @property
    def audit_page(self) -> str:
        return f"{self.results}/audit/index.html"

    def gate(self, scheme: str) -> str:
        return f"{self.results}/audit/gate-{scheme}.json"

    def phase(self, method: str, phase: str) -> str:
        return f"{self.results}/pretrain/{method}/{phase}"

    def trunk(self, trunk: str) -> str:
        return f"{self.results}/pretrain/{trunk}/trunk.safetensors"

    def features(self, trunk: str, source: str) -> str:
        return f"{self.results}/features/{trunk}/{source}.npy"

    def cell(
        self, method: str, pair: str, fraction: int | str, seed: int | str, other_scheme: str = ""
    ) -> str:
        """The folder of a run; `other_scheme` if it is not under the profile's own."""
        under = f"leakage/{other_scheme}" if other_scheme else "finetune"
        return f"{self.results}/{under}/{method}/{pair}/{fraction}/seed-{seed}"

    def attention(self, arm: str, synthetic: bool) -> str:
        """Without ending. Films and sentences of real patients stay with the data."""
        return f"{self.results if synthetic else self.data}/figures/attention-{arm}"

    def tsne(self, arm: str) -> str:
        """Without ending."""
        return f"{self.results}/figures/tsne-{arm}"

    def alignment(self, kind: str, arm: str) -> str:
        return f"{self.results}/alignment/{kind}/{arm}/metrics.json"

    def table(self, name: int | str, ending: str) -> str:
        """Of the paper's Table 1 to 4, or of one of ours by its name."""
        return f"{self.results}/tables/{'table' if str(name).isdigit() else ''}{name}.{ending}"

    @property
    def summary(self) -> str:
        return f"{self.results}/tables/metrics.json"

    @property
    def report(self) -> str:
        return f"{self.results}/report/index.html"
