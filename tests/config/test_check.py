import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lit_face.config import ConfigError, check_config, instantiate, locate
from lit_face.config.composition import check_overrides, compose_config
from lit_face.config.files import config_folder, group_options, is_trained
from lit_face.config.help import help_text

METHODS = sorted(group_options(config_folder())["method"])
TRAINED = [name for name in METHODS if is_trained(name)]
FITS = [name for name in METHODS if not is_trained(name)]
DATA = sorted(group_options(config_folder())["data"])


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", TRAINED)
def test_every_method_passes_with_every_data_that_has_its_fields(method, data):
    config = compose_config("train", [f"method={method}", f"data={data}"])
    needed = locate(config.method._target_).requires
    if needed <= locate(config.data._target_).provides:
        assert check_config(config)["method"]["_target_"].startswith("lit_face.methods.")
    else:
        with pytest.raises(ConfigError, match="needs the field"):
            check_config(config)


@pytest.mark.parametrize("script", ["reconstruct", "evaluate"])
def test_what_is_trained_and_what_fits_photos_are_told_apart(script):
    assert FITS
    assert TRAINED
    for method in FITS:
        (problem,), good = check_overrides("train", [f"method={method}"])
        assert "has nothing to train: python reconstruct.py" in problem
        assert not good
        assert check_overrides(script, [f"method={method}"]) == ([], [f"method={method}"])
    for method in TRAINED:
        (problem,), _ = check_overrides(script, [f"method={method}"])
        assert "give ckpt=RUN" in problem


@pytest.mark.parametrize("method", FITS)
def test_every_method_that_fits_passes_the_check(method):
    given = [f"method={method}", "input=photos", "out=faces"]
    config = check_config(compose_config("reconstruct", given))
    assert config["method"]["_target_"].startswith("lit_face.methods.")


@pytest.mark.parametrize(
    "space",
    ["model", "plain", "donor", "file texture_space.path=space.npz"],
)
def test_every_texture_space_passes_the_check(space):
    given = ["method=flame_fit", "input=photos", "out=faces", *f"texture_space={space}".split()]
    config = check_config(compose_config("reconstruct", given))
    assert config["method"]["texture_space"] == config["texture_space"]


def test_everything_wrong_is_reported_at_once():
    overrides = ["method=prnn", "data.batchsize=4"]
    problems, good = check_overrides("train", [*overrides, "seed=3"])
    assert good == ["seed=3"]
    assert "did you mean 'prn'" in problems[0]
    assert "did you mean 'data.batch_size'" in problems[1]


def test_types_and_unknown_arguments_and_sizes():
    config = compose_config("train", ["method.optimizer.lr=abc", "data.batch_size=many"])
    OmegaConf.update(config, "method.networks", 3, force_add=True)
    with pytest.raises(ConfigError) as error:
        check_config(config)
    text = str(error.value)
    assert "data.batch_size" in text
    assert "expects int, got 'many' (str)" in text
    assert "method.optimizer.lr" in text
    assert "no argument 'networks'; did you mean 'network'?" in text


def test_impossible_pairs():
    config = compose_config("train", ["method=prn", "method.network.input_size=100"])
    with pytest.raises(ConfigError) as error:
        check_config(config)
    assert "multiple of 32" in str(error.value)
    assert "data.image_size" in str(error.value)
    halves = compose_config("train", ["trainer.accelerator=cpu", "trainer.precision=16-mixed"])
    with pytest.raises(ConfigError, match="bf16-mixed"):
        check_config(halves)


def test_missing_values_are_named():
    config = compose_config("train", ["data.root=???"])
    with pytest.raises(ConfigError, match=r"data\.root: a value is required"):
        check_config(config)


@pytest.mark.parametrize("target", ["os.system", "builtins.open", "torch.load", "subprocess.run"])
def test_untrusted_targets_are_refused_wherever_they_hide(target):
    node = {"_target_": "torch.nn.Linear", "in_features": {"_target_": target}, "out_features": 1}
    with pytest.raises(ConfigError, match="outside the trusted packages"):
        instantiate(node)
    with pytest.raises(ConfigError, match="outside the trusted packages"):
        check_config({"method": node})


def test_a_trusted_module_can_be_added():
    node = {"_target_": "fractions.Fraction", "numerator": 3}
    assert instantiate(node, trusted_modules=("fractions",)) == 3


def test_help_lists_every_group_and_option():
    text = help_text("train.py", "train", "python train.py")
    options = group_options(config_folder())
    for group in ("method", "data", "trainer", "callbacks", "logger", "morphable_model"):
        assert f"\n{group}:\n" in text
        for option, comment in options[group].items():
            assert comment, f"conf/{group}/{option}.yaml lacks its first comment line"
            assert comment in text


def test_hydra_composes_the_same_from_the_folder():
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        assert compose("train").method._target_ == "lit_face.methods.prn.PRNModule"
