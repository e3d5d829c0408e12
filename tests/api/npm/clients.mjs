// The official clients from npm, against a daemon: `ollama` and `openai`. Run by tests/api/test_npm.py, which says where
// the daemon, the packages and a registry for pulls are: MLXR_URL, MLXR_NPM, MLXR_MODEL.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

const require = createRequire(process.env.MLXR_NPM + '/')
const { Ollama } = require('ollama')
const OpenAI = require('openai').default
const url = process.env.MLXR_URL
const model = process.env.MLXR_MODEL
const ollama = new Ollama({ host: url })
const openai = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 })
const messages = [{ role: 'user', content: 'Hello' }]
const options = { num_predict: 12, temperature: 0 }
const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'], additionalProperties: false }

async function parts(stream) {
    const all = []
    for await (const part of stream) {
        all.push(part)
    }
    return all
}

// ---- ollama

test('ollama: lists, versions and descriptions', async () => {
    assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+$/)
    const names = (await ollama.list()).models.map((m) => m.name)
    assert.ok(names.includes(model + ':latest'))
    const shown = await ollama.show({ model })
    assert.equal(shown.details.family, 'qwen2')
    assert.ok(shown.capabilities.includes('completion'))
    assert.ok((await ollama.ps()).models.some((m) => m.name === model + ':latest'))
})

test('ollama: chats and completions, whole and streamed', async () => {
    const whole = await ollama.chat({ model, messages, options })
    const lines = await parts(await ollama.chat({ model, messages, options, stream: true }))
    assert.equal(lines.map((l) => l.message.content).join(''), whole.message.content)
    assert.equal(lines.at(-1).done, true)
    assert.equal(lines.at(-1).eval_count, whole.eval_count)
    const text = await ollama.generate({ model, prompt: 'Once', options })
    const pieces = await parts(await ollama.generate({ model, prompt: 'Once', options, stream: true }))
    assert.equal(pieces.map((p) => p.response).join(''), text.response)
    assert.deepEqual(pieces.at(-1).context, text.context)
    assert.ok((await ollama.generate({ model, prompt: 'Once', raw: true, options })).done)
})

test('ollama: schemas, log-probabilities, embeddings', async () => {
    const bound = await ollama.chat({ model, messages, format: schema, options: { ...options, num_predict: 60 } })
    assert.deepEqual(Object.keys(JSON.parse(bound.message.content)), ['a'])
    const told = await ollama.chat({ model, messages, logprobs: true, top_logprobs: 2, options })
    assert.equal(told.logprobs.length, told.eval_count)
    const { embeddings } = await ollama.embed({ model, input: ['a', 'b'] })
    assert.equal(embeddings.length, 2)
    assert.deepEqual((await ollama.embeddings({ model, prompt: 'a' })).embedding, embeddings[0])
})

test('ollama: errors carry status and reason', async () => {
    await assert.rejects(ollama.chat({ model: 'no-such', messages }), { status_code: 404, error: /'no-such' not found/ })
    await assert.rejects(ollama.chat({ model, messages, options: { temperatur: 1 } }), { status_code: 400 })
    await assert.rejects(ollama.generate({ model, prompt: 'x', images: ['aGk='] }), { status_code: 400, error: /images/ })
})

test('ollama: models are loaded, kept and unloaded', async () => {
    assert.equal((await ollama.generate({ model: 'other', prompt: '', keep_alive: '1h' })).done_reason, 'load')
    const one = (await ollama.ps()).models.find((m) => m.name === 'other:latest')
    assert.ok(new Date(one.expires_at) - Date.now() > 3500e3)
    assert.equal((await ollama.generate({ model: 'other', prompt: '', keep_alive: 0 })).done_reason, 'unload')
})

test('ollama: models are made, copied, pulled and deleted', async () => {
    const states = await parts(await ollama.create({ model: 'made', from: model, system: 'Hi.', stream: true }))
    assert.equal(states.at(-1).status, 'success')
    await ollama.copy({ source: 'made', destination: 'copied' })
    assert.equal((await ollama.show({ model: 'copied' })).system, 'Hi.')
    const steps = await parts(await ollama.pull({ model: 'm', stream: true }))
    assert.equal(steps.at(-1).status, 'success')
    const files = steps.filter((s) => s.digest)
    assert.equal(files.at(-1).completed, files.at(-1).total)
    for (const name of ['made', 'copied', 'm']) {
        await ollama.delete({ model: name })
    }
    await assert.rejects(ollama.show({ model: 'made' }), { status_code: 404 })
})

test('ollama: an aborted stream ends', async () => {
    const client = new Ollama({ host: url })
    const stream = await client.chat({ model, messages, stream: true, options: { num_predict: -1, logit_bias: { 33: 100 } } })
    await assert.rejects(async () => {
        for await (const part of stream) {
            assert.equal(part.done, false)
            client.abort()
        }
    }, { name: 'AbortError' })
})

// ---- openai

test('openai: models, chats and completions, whole and streamed', async () => {
    const names = (await parts(openai.models.list())).map((m) => m.id)
    assert.ok(names.includes(model))
    assert.equal((await openai.models.retrieve(model)).id, model)
    const fields = { model, messages, max_tokens: 12, temperature: 0 }
    const whole = await openai.chat.completions.create(fields)
    const stream = await openai.chat.completions.create({ ...fields, stream: true, stream_options: { include_usage: true } })
    const events = await parts(stream)
    assert.equal(events.map((e) => e.choices[0]?.delta.content ?? '').join(''), whole.choices[0].message.content)
    assert.equal(events.at(-1).usage.completion_tokens, whole.usage.completion_tokens)
    const text = await openai.completions.create({ model, prompt: 'Once', max_tokens: 8, temperature: 0 })
    const pieces = await parts(await openai.completions.create({ model, prompt: 'Once', max_tokens: 8, temperature: 0, stream: true }))
    assert.equal(pieces.map((p) => p.choices[0]?.text ?? '').join(''), text.choices[0].text)
})

test('openai: schemas, log-probabilities, embeddings, responses', async () => {
    const bound = await openai.chat.completions.create({
        model, messages, max_tokens: 60, temperature: 0,
        response_format: { type: 'json_schema', json_schema: { name: 't', strict: true, schema } },
    })
    assert.deepEqual(Object.keys(JSON.parse(bound.choices[0].message.content)), ['a'])
    const told = await openai.chat.completions.create({ model, messages, max_tokens: 4, logprobs: true, top_logprobs: 2 })
    assert.equal(told.choices[0].logprobs.content.length, told.usage.completion_tokens)
    const { data } = await openai.embeddings.create({ model, input: ['a', 'b'] })
    assert.equal(data.length, 2)
    const made = await openai.responses.create({ model, input: 'Hello', max_output_tokens: 8, temperature: 0 })
    assert.equal((await openai.responses.retrieve(made.id)).output_text, made.output_text)
    const events = await parts(await openai.responses.create({ model, input: 'Hello', max_output_tokens: 8, temperature: 0, stream: true }))
    assert.equal(events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join(''), made.output_text)
    const next = await openai.responses.create({ model, input: 'More', previous_response_id: made.id, max_output_tokens: 4 })
    assert.ok(next.usage.input_tokens > made.usage.input_tokens)
    await openai.responses.delete(made.id)
    await assert.rejects(openai.responses.retrieve(made.id), OpenAI.NotFoundError)
})

test('openai: errors and streams that are aborted', async () => {
    await assert.rejects(openai.chat.completions.create({ model: 'no-such', messages }), OpenAI.NotFoundError)
    await assert.rejects(openai.chat.completions.create({ model, messages, temperatur: 1 }), OpenAI.BadRequestError)
    const stream = await openai.chat.completions.create({ model, messages, max_tokens: 200, logit_bias: { 33: 100 }, stream: true })
    for await (const event of stream) {
        assert.ok(event.id)
        stream.controller.abort()
    }
})
