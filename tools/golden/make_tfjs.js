// Models that TensorFlow.js itself saves, and what it answers: the source of tests/golden/tfjs.zip.
//
//   npm install @tensorflow/tfjs@4.22.0 && node tools/golden/make_tfjs.js FOLDER, then zip the content of FOLDER
//
// Each case is a folder: model.json and weights.bin as `model.save` gives them, values.json with inputs and outputs.

const fs = require('fs');
const path = require('path');
const tf = require(require.resolve('@tensorflow/tfjs', {paths: [process.cwd()]}));

const layers = tf.layers;
let seed = 7;

// Numbers in -1..1 from a linear congruential generator, rounded so that files stay small.
function random() {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return Math.round((seed / 1073741824 - 1) * 1000) / 1000;
}

function floats(shape) {
  return tf.tensor(Array.from({length: shape.reduce((a, b) => a * b, 1)}, random), shape);
}

// Two rows of four timesteps; the first begins with two steps of zeros, the second ends with one.
function padded(features) {
  const rows = floats([2, 4, features]).arraySync();
  rows[0][0].fill(0);
  rows[0][1].fill(0);
  rows[1][3].fill(0);
  return tf.tensor(rows);
}

function sequential(first, ...rest) {
  const model = tf.sequential();
  [first, ...rest].forEach(layer => model.add(layer));
  return model;
}

const CASES = {
  lstm: () => [sequential(
      layers.lstm({units: 3, inputShape: [4, 2], returnSequences: true, dropout: 0.2}), layers.dropout({rate: 0.3}),
      layers.lstm({units: 2, recurrentActivation: 'sigmoid', goBackwards: true, trainable: false}),
      layers.dense({units: 2, activation: 'softmax'})), [floats([2, 4, 2])]],
  gru: () => [sequential(
      layers.gru({units: 3, inputShape: [null, 2], returnSequences: true}),
      layers.simpleRNN({units: 2, useBias: false, activation: 'hardSigmoid'})), [floats([2, 4, 2])]],
  masked_bidirectional: () => [sequential(
      layers.masking({maskValue: 0, inputShape: [4, 2]}),
      layers.bidirectional({layer: layers.lstm({units: 2, returnSequences: true}), mergeMode: 'concat'}),
      layers.timeDistributed({layer: layers.dense({units: 2})})), [padded(2)]],
  masked_gru: () => [sequential(
      layers.masking({maskValue: 0, inputShape: [4, 2]}), layers.gru({units: 2, returnSequences: true}),
      layers.bidirectional({layer: layers.simpleRNN({units: 2}), mergeMode: 'sum'})), [padded(2)]],
  embedding: () => [sequential(
      layers.embedding({inputDim: 7, outputDim: 3, maskZero: true, inputLength: 4}),
      layers.lstm({units: 2}), layers.dense({units: 1, activation: 'sigmoid'})),
      [tf.tensor([[0, 0, 3, 6], [1, 5, 2, 0]], [2, 4], 'int32')]],
  cells: () => [sequential(layers.rnn({
      cell: [layers.lstmCell({units: 2}), layers.gruCell({units: 3}), layers.simpleRNNCell({units: 2})],
      returnSequences: true, inputShape: [4, 2]})), [floats([2, 4, 2])]],
  one_cell: () => [sequential(layers.rnn({cell: layers.lstmCell({units: 2}), inputShape: [4, 2]})), [floats([2, 4, 2])]],
  conv: () => [sequential(
      layers.conv1d({filters: 3, kernelSize: 2, padding: 'same', activation: 'relu', inputShape: [4, 2]}),
      layers.batchNormalization(), layers.layerNormalization(), layers.maxPooling1d({poolSize: 2}),
      layers.lstm({units: 2}), layers.reLU({maxValue: 1}), layers.leakyReLU({alpha: 0.2})), [floats([2, 4, 2])]],
  shared_and_nested: () => {
    const inner = sequential(layers.lstm({units: 2, inputShape: [4, 2]}), layers.dense({units: 2, activation: 'elu'}));
    const a = tf.input({shape: [4, 2]});
    const b = tf.input({shape: [4, 2]});
    const shared = layers.dense({units: 2, activation: 'tanh'});
    const joined = layers.concatenate().apply(
        [inner.apply(shared.apply(a)), inner.apply(shared.apply(b)), layers.globalMaxPooling1d({}).apply(a)]);
    return [tf.model({inputs: [a, b], outputs: [joined, layers.dense({units: 1}).apply(joined)]}),
      [floats([2, 4, 2]), floats([2, 4, 2])]];
  },
  encoder_decoder: () => {
    const a = tf.input({shape: [4, 2]});
    const b = tf.input({shape: [3, 2]});
    const [, h, c] = layers.lstm({units: 2, returnState: true}).apply(a);
    const decoded = layers.lstm({units: 2, returnSequences: true}).apply(b, {initialState: [h, c]});
    return [tf.model({inputs: [a, b], outputs: layers.dense({units: 2}).apply(decoded)}),
      [floats([2, 4, 2]), floats([2, 3, 2])]];
  },
};

async function main(folder) {
  await tf.setBackend('cpu');
  for (const [name, build] of Object.entries(CASES)) {
    const [model, inputs] = build();
    model.setWeights(model.getWeights().map((array, i) => {
      const isVariance = model.weights[i].originalName.endsWith('moving_variance');
      return isVariance ? floats(array.shape).square().add(0.5) : floats(array.shape);
    }));
    const y = model.predict(inputs.length > 1 ? inputs : inputs[0]);
    const outputs = (Array.isArray(y) ? y : [y]).map(tensor => tensor.arraySync());
    const target = path.join(folder, name);
    fs.mkdirSync(target, {recursive: true});
    await model.save(tf.io.withSaveHandler(async artifacts => {
      const {modelTopology, format, generatedBy, convertedBy, weightSpecs, weightData} = artifacts;
      const weightsManifest = [{paths: ['weights.bin'], weights: weightSpecs}];
      const index = {modelTopology, format, generatedBy, convertedBy, weightsManifest};
      fs.writeFileSync(path.join(target, 'model.json'), JSON.stringify(index));
      fs.writeFileSync(path.join(target, 'weights.bin'), Buffer.from(weightData));
      return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
    }));
    const values = {inputs: inputs.map(tensor => tensor.arraySync()), outputs};
    fs.writeFileSync(path.join(target, 'values.json'), JSON.stringify(values));
  }
}

main(process.argv[2]);
