from fedrec.api.audit import verify as verify
from fedrec.api.data import Data as Data
from fedrec.api.data import load_dataset as load_dataset
from fedrec.api.data import read_log as read_log
from fedrec.api.data import split as split
from fedrec.api.encode import encode as encode
from fedrec.api.model import Model as Model
from fedrec.api.model import load_model as load_model
from fedrec.api.run import Run as Run
from fedrec.api.run import load_run as load_run
from fedrec.api.simulate import load_scenario as load_scenario
from fedrec.api.simulate import resume as resume
from fedrec.api.simulate import simulate as simulate
from fedrec.errors import BudgetExhausted as BudgetExhausted
from fedrec.errors import FedrecError as FedrecError
from fedrec.errors import InputError as InputError
from fedrec.errors import PrivacyError as PrivacyError
from fedrec.errors import VerificationError as VerificationError

__version__: str
